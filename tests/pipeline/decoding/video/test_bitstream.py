"""What packets say of themselves is what their encoder says of them."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from intertitle.pipeline.decoding.video.bitstream import TELLS_EARLY, packet_reader
from tests.pipeline.decoding.video.films import write

FAST = {"deadline": "realtime", "cpu-used": "8"}


@pytest.mark.parametrize(
    ("codec", "container", "options"),
    [
        ("libx264", "mkv", {"bf": "2"}),
        ("libx264", "ts", {"bf": "2"}),
        ("libx265", "mkv", {"x265-params": "log-level=none:keyint=12:min-keyint=12"}),
        ("mpeg4", "mkv", {"bf": "2"}),
        ("mpeg4", "ts", {"bf": "1"}),
        ("mpeg1video", "mkv", {"bf": "2"}),
        ("mpeg2video", "mkv", {"bf": "2"}),
        ("h263", "mov", {}),
        ("libvpx", "mkv", FAST),
    ],
)
def test_keys_and_pictures_that_are_shown_early(
    codec: str, container: str, options: dict[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path / f"a.{container}", codec, options=options, gop=12)
    with av.open(path) as file:
        stream = file.streams.video[0]
        name = stream.codec_context.codec.canonical_name
        read = packet_reader(name, bytes(stream.codec_context.extradata or b""))
        packets = [packet for packet in file.demux(stream) if packet.size]
        traits = [read(bytes(packet)) for packet in packets]
    keys = [packet.is_keyframe for packet in packets]
    assert [trait.start for trait in traits] == keys and 3 <= sum(keys) < len(keys)
    if name in TELLS_EARLY:
        times = [packet.pts for packet in packets]
        early = [time < max(times[: at + 1]) for at, time in enumerate(times)]
        assert [trait.early for trait in traits] == early and any(early)
    assert all(trait.intact and not trait.no_show and not trait.packed for trait in traits)


def test_a_header_that_does_not_end_is_damaged() -> None:
    # After the start code of a picture: its kind, and the seconds that have passed.
    read = packet_reader("mpeg4", b"")
    assert not read(b"\0\0\1\xb6" + b"\xff" * 40).intact
    assert read(b"\0\0\1\xb6" + b"\xff" * 20).intact
