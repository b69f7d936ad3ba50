"""Which packets the wanted pictures need."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertitle.pipeline.decoding.video.bitstream import PacketTraits
from intertitle.pipeline.decoding.video.decode_plan import DecodePlan, plan_decoding
from intertitle.pipeline.decoding.video.demux import PacketInfo, VideoFile, VideoStream
from intertitle.pipeline.decoding.video.timeline import arrange

KEY, LEANED_ON, SPARE = (
    PacketTraits(idr=True),
    PacketTraits(start=False),
    PacketTraits(start=False, disposable=0),
)
# Three times, in the order of decoding: a key, the picture three later, the two between.
GROUP = ((0, KEY), (3, LEANED_ON), (1, SPARE), (2, SPARE))
PACKETS = [
    PacketInfo(4 * group + pts, None, None, 100, traits is KEY, False, 1, traits)
    for group in range(3)
    for pts, traits in GROUP
]
VIDEO = VideoStream(VideoFile(BytesIO(), "mov", 1), "h264", False, False, 1, 25, PACKETS, {}, None)


def plan(frames: list[int], video: VideoStream = VIDEO) -> list[DecodePlan]:
    return list(plan_decoding(video, arrange(video), frames))


def test_what_no_wanted_picture_leans_on_is_left_out() -> None:
    (clip,) = plan([2])
    assert (clip.packets, clip.output_positions) == ([0, 1, 3], [0, 2, 1])
    assert (clip.frames, clip.places, clip.num_pictures) == ([2], [1], 3)
    assert (clip.starts, clip.num_bytes) == ({0}, 300)


def test_clips_that_begin_afresh_are_joined() -> None:
    (clip,) = plan([0, 4, 11])
    assert (clip.packets, clip.output_positions) == ([0, 4, 8, 9], [0, 1, 2, 3])
    assert (clip.places, clip.starts) == ([0, 1, 3], {0, 4, 8})


@pytest.mark.parametrize("reason", ["colours", "open groups", "size"])
def test_clips_that_can_not_be_joined_are_not(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    video = replace(VIDEO, coloured=reason == "colours")
    if reason == "open groups":
        packets = [p._replace(traits=p.traits._replace(idr=False)) for p in PACKETS]
        video = replace(video, packets=packets)
    if reason == "size":
        monkeypatch.setattr("intertitle.pipeline.decoding.video.decode_plan.IN_MEMORY_BYTES", 399)
    clips = plan([0, 4, 11], video)
    # Of one packet, one and two.
    expected = [[0, 4], [8, 9]] if reason == "size" else [[0], [4], [8, 9]]
    assert [clip.packets for clip in clips] == expected


def test_pictures_that_are_only_counted_come_with_all_before_them() -> None:
    packets = [PacketInfo(None, at, None, 100, at % 10 == 0, False, 1, KEY) for at in range(90)]
    (clip,) = plan([5, 40], replace(VIDEO, packets=packets))
    # And as many after them as a decoder may hold back.
    assert clip.packets == list(range(40 + 1 + 32))
    assert (clip.by_time, clip.places, clip.num_pictures) == (False, [5, 40], 41)


@given(st.sets(st.integers(0, 11), min_size=1).map(sorted), st.booleans())
def test_every_wanted_picture_is_in_one_clip(frames: list[int], coloured: bool) -> None:
    video = replace(VIDEO, coloured=coloured)
    clips = plan(frames, video)
    assert [frame for clip in clips for frame in clip.frames] == frames
    for clip in clips:
        assert clip.packets == sorted(set(clip.packets)) and clip.packets[0] in clip.starts
        shown = [clip.packets[clip.output_positions.index(place)] for place in clip.places]
        assert [PACKETS[packet].pts for packet in shown] == clip.frames
