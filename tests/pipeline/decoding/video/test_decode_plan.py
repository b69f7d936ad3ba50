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
    assert (clip.frames, clip.places) == ([2], [1])
    assert (clip.starts, clip.num_bytes) == ({0}, 300)


def test_clips_that_begin_afresh_are_joined() -> None:
    (clip,) = plan([0, 4, 11])
    assert (clip.packets, clip.output_positions) == ([0, 4, 8, 9], [0, 1, 2, 3])
    assert (clip.places, clip.starts) == ([0, 1, 3], {0, 4, 8})
    assert (clip.frames, clip.num_bytes) == ([0, 4, 11], 400)
    assert clip.by_time


@pytest.mark.parametrize("reason", ["colours", "open groups", "size"])
def test_clips_that_can_not_be_joined_are_not(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    video = replace(VIDEO, coloured=reason == "colours")
    if reason == "open groups":
        packets = [p._replace(traits=p.traits._replace(idr=False)) for p in PACKETS]
        video = replace(video, packets=packets)
    if reason == "size":
        monkeypatch.setattr("intertitle.pipeline.decoding.video.decode_plan.IN_MEMORY_BYTES", 399)
    clips = plan([0, 4, 11], video)
    # Of one packet, one and two: 400 bytes.
    expected = [[0, 4], [8, 9]] if reason == "size" else [[0], [4], [8, 9]]
    assert [clip.packets for clip in clips] == expected


def test_clips_are_joined_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intertitle.pipeline.decoding.video.decode_plan.IN_MEMORY_BYTES", 400)
    assert [clip.packets for clip in plan([0, 4, 11])] == [[0, 4, 8, 9]]


def led_by(pts: int, key: PacketTraits) -> tuple[tuple[int, PacketTraits], ...]:
    """A key, and then the two pictures that are shown just before it."""
    return ((pts, key), (pts - 2, LEANED_ON), (pts - 1, LEANED_ON))


def test_what_is_shown_before_its_key_is_decoded_from_the_key_before() -> None:
    # A key, and twice a key and the two pictures before it, which lean on both keys.
    key = PacketTraits()
    packets = [
        PacketInfo(pts, None, None, 100, traits is key, False, 1, traits)
        for pts, traits in ((0, key), *led_by(3, key), *led_by(6, key))
    ]
    video = replace(VIDEO, codec="hevc", packets=packets)
    assert arrange(video).starts.tolist() == [0, 1, 4]
    for frame, needed, positions in (
        (0, [0], [0]),
        (3, [1], [0]),
        (6, [4], [0]),
        (1, [0, 1, 2], [0, 2, 1]),
        # Nothing that is shown before the key.
        (4, [1, 4, 5], [0, 2, 1]),
    ):
        (clip,) = plan([frame], video)
        assert (clip.packets, clip.output_positions) == (needed, positions)
        assert clip.places == positions[-1:]
    (clip,) = plan([4, 5], video)
    assert (clip.packets, clip.output_positions) == ([1, 4, 5, 6], [0, 3, 1, 2])
    assert clip.places == [1, 2]


@pytest.mark.parametrize("first", [True, False])
def test_packets_without_a_picture_take_no_place_in_the_output(first: bool) -> None:
    plain = [(KEY, LEANED_ON)]
    hidden = [(KEY, PacketTraits(start=False, no_show=True), LEANED_ON)]
    kinds = [traits for group in (hidden + plain if first else plain + hidden) for traits in group]
    packets = [
        PacketInfo(pts, None, None, 100, traits is KEY, False, 1, traits)
        for pts, traits in enumerate(kinds)
    ]
    clips = plan([1, 3], replace(VIDEO, packets=packets))
    # The pictures are counted, and the clip is not joined with another.
    one, other = clips if first else clips[::-1]
    assert (len(one.packets), one.places) == (3, [1])
    assert (one.by_time, one.output_positions) == (False, [0, 1, 2])
    assert (len(other.packets), other.places, other.by_time) == (2, [1], True)


def test_pictures_that_are_only_counted_come_with_all_before_them() -> None:
    packets = [PacketInfo(None, at, None, 100, at % 10 == 0, False, 1, KEY) for at in range(90)]
    (clip,) = plan([5, 40], replace(VIDEO, packets=packets))
    # And as many after them as a decoder may hold back.
    assert clip.packets == list(range(40 + 1 + 32))
    assert (clip.by_time, clip.places) == (False, [5, 40])
    assert clip.output_positions == list(range(73))
    (clip,) = plan([80], replace(VIDEO, packets=packets))
    assert clip.packets == list(range(90))


@given(st.sets(st.integers(0, 11), min_size=1).map(sorted), st.booleans())
def test_every_wanted_picture_is_in_one_clip(frames: list[int], coloured: bool) -> None:
    video = replace(VIDEO, coloured=coloured)
    clips = plan(frames, video)
    assert [frame for clip in clips for frame in clip.frames] == frames
    for clip in clips:
        assert clip.packets == sorted(set(clip.packets)) and clip.packets[0] in clip.starts
        shown = [clip.packets[clip.output_positions.index(place)] for place in clip.places]
        assert [PACKETS[packet].pts for packet in shown] == clip.frames
