"""Which pictures are readable and when they are shown, from what is known of the packets alone."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest

from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.video.bitstream import PacketTraits
from intertitle.pipeline.decoding.video.demux import PacketInfo, VideoFile, VideoStream
from intertitle.pipeline.decoding.video.timeline import arrange

TRAITS = PacketTraits(start=True)


def packet(
    pts: int | None,
    key: bool = False,
    dts: int | None = None,
    traits: PacketTraits = TRAITS,
    discard: bool = False,
) -> PacketInfo:
    return PacketInfo(pts, dts, None, 100, key, discard, 2, traits)


def broken(pts: int, key: bool = False) -> PacketInfo:
    return packet(pts, key, traits=PacketTraits(intact=False))


def video(*packets: PacketInfo, codec: str = "hevc") -> VideoStream:
    source = VideoFile(BytesIO(), "mov", 1)
    return VideoStream(source, codec, False, False, 0.5, 10.0, list(packets), {}, None)


def test_pictures_stand_in_the_order_shown_and_count_from_the_first() -> None:
    timeline = arrange(video(packet(20, key=True), packet(28), packet(22), packet(26)))
    assert timeline.packets.tolist() == [0, 2, 3, 1]
    assert timeline.starts_s.tolist() == [0.0, 1.0, 3.0, 4.0]
    assert (timeline.end_s, timeline.degraded) == (5.0, None)


def test_what_is_not_to_be_shown_has_no_place() -> None:
    hidden = packet(2, traits=PacketTraits(no_show=True))
    timeline = arrange(video(packet(0, key=True), hidden, packet(4, discard=True), packet(6)))
    assert timeline.packets.tolist() == [0, 3]


def test_after_damage_pictures_are_readable_from_the_next_start() -> None:
    # Packet 4 is shown before the key that it comes after: it leans on what is lost.
    rest = (packet(10, key=True), packet(8), packet(12))
    timeline = arrange(video(packet(0, key=True), broken(2), *rest))
    assert timeline.packets.tolist() == [0, 2, 4]
    assert timeline.degraded == "damaged: 3 of 5 frames can be read"


def test_what_comes_before_the_first_start_is_not_readable() -> None:
    no_start = packet(0, key=True, traits=PacketTraits(start=False))
    packets = (no_start, packet(2), packet(4, key=True), packet(6))
    assert arrange(video(*packets)).packets.tolist() == [2, 3]


def test_damage_that_was_noticed_before_is_what_is_told() -> None:
    for packets in ((packet(0, key=True),), (packet(0, key=True), broken(2))):
        cut_short = replace(video(*packets), degraded="cut short")
        assert arrange(cut_short).degraded == "cut short"


def test_without_a_whole_picture_a_file_is_unreadable() -> None:
    with pytest.raises(ProbeError, match="none of its frames is whole"):
        arrange(video(broken(0, key=True), packet(2)))


@pytest.mark.parametrize(
    ("dts", "starts_s", "end_s"),
    [
        # The last is shown as long as the median of the others.
        ([4, 6, 9, 10], [0.0, 1.0, 2.5, 3.0], 4.0),
        ([4, 6], [0.0, 1.0], 2.0),
        ([4, None, 9], [0.0, 0.1, 0.2], 0.3),
        ([4, 4, 4], [0.0, 0.1, 0.2], 0.3),
    ],
    ids=["all decoding times", "two", "some", "all the same"],
)
def test_without_all_times_of_showing_pictures_are_counted(
    dts: list[int | None], starts_s: list[float], end_s: float
) -> None:
    packets = [packet(None if at == 1 else at, dts=time) for at, time in enumerate(dts)]
    timeline = arrange(video(*packets))
    assert not timeline.by_time and timeline.packets.tolist() == list(range(len(dts)))
    assert timeline.starts_s == pytest.approx(starts_s)
    assert timeline.end_s == pytest.approx(end_s)


def test_pictures_that_are_counted_are_counted_from_the_first_start() -> None:
    packets = [packet(None, key=at > 0) for at in range(3)]
    timeline = arrange(video(*packets))
    assert (timeline.starts.tolist(), timeline.packets.tolist()) == ([1], [1, 2])


def test_a_single_picture_bears_the_time_of_its_packet() -> None:
    timeline = arrange(video(packet(6, key=True)))
    assert timeline.by_time
    assert (timeline.starts_s.tolist(), timeline.end_s) == ([0.0], 1.0)


def test_times_that_were_guessed_or_are_all_the_same_are_not_the_pictures_own() -> None:
    packets = [packet(0, key=True, dts=0), packet(4, dts=2)]
    assert arrange(video(*packets)).by_time
    # A decoder that reorders, of packets in the order of their times.
    assert not arrange(replace(video(*packets), reorders=True, codec="vc1")).by_time
    assert arrange(replace(video(*packets[:1]), reorders=True, codec="vc1")).by_time
    early = [*packets, packet(2, dts=4)]
    assert arrange(replace(video(*early), reorders=True, codec="vc1")).by_time
    assert not arrange(video(packet(4, key=True), packet(4))).by_time


@pytest.mark.parametrize("step", [1, 3])
def test_the_last_picture_is_shown_as_long_as_the_others_where_its_packet_does_not_say(
    step: int,
) -> None:
    packets = [packet(place * step, key=True)._replace(duration=0) for place in range(4)]
    assert arrange(video(*packets)).end_s == 4 * step * 0.5
    # Some are shown at the same time.
    packets[1:1] = [packets[0]] * 4
    assert arrange(video(*packets)).end_s == 4 * step * 0.5


def test_the_last_picture_is_shown_as_long_as_its_packet_says() -> None:
    durations = (2, 4, 7)
    packets = [
        packet(pts, key=True)._replace(duration=duration)
        for pts, duration in zip((0, 2, 6), durations, strict=True)
    ]
    assert arrange(video(*packets)).end_s == (6 + 7) * 0.5


def test_nothing_tells_how_long_a_single_picture_is_shown() -> None:
    timeline = arrange(video(packet(6, key=True)._replace(duration=0)))
    assert (timeline.starts_s.tolist(), timeline.end_s) == ([0.0], 0.0)
    # Two of one time stay apart even so: they share one unit of time.
    hidden = packet(9, traits=PacketTraits(no_show=True))
    packets = [packet(6, key=True)._replace(duration=0)] * 2
    assert arrange(video(*packets, hidden)).starts_s.tolist() == [0.0, 0.25]


def test_pictures_of_one_time_share_it_out() -> None:
    timeline = arrange(video(*(packet(pts, key=True) for pts in (0, 4, 4, 8))))
    assert timeline.starts_s.tolist() == [0.0, 2.0, 3.0, 4.0]
    assert (np.diff(timeline.starts_s) > 0).all()
    timeline = arrange(video(*(packet(pts, key=True) for pts in (0, 4, 4, 4))))
    assert timeline.starts_s == pytest.approx([0, 2, 2 + 1 / 3, 2 + 2 / 3])
    assert timeline.end_s == 3.0


def leading(pts: int, spare: bool) -> PacketInfo:
    """A packet that is no start, and that others lean on or not."""
    return packet(pts, traits=PacketTraits(start=False, disposable=0 if spare else -1))


@pytest.mark.parametrize(
    ("codec", "spares", "starts"),
    [
        ("h264", [False], [0]),
        ("h264", [True], [0, 2]),
        ("h264", [True, False], [0]),
        ("h264", [False, True], [0]),
        ("h264", [], [0, 2]),
        ("hevc", [False], [0, 2]),
        ("av1", [False], [0, 2]),
    ],
)
def test_where_decoding_can_begin(codec: str, spares: list[bool], starts: list[int]) -> None:
    # Pictures that are shown before the key that they come after.
    early = [leading(3 + n, spare) for n, spare in enumerate(spares)]
    group = (packet(0, key=True), packet(2), packet(6, key=True), *early)
    assert arrange(video(*group, codec=codec)).starts.tolist() == starts
    # What is shown with or after the key may lean on it.
    for later in (6, 8):
        others = (*group, leading(later, spare=False))
        assert arrange(video(*others, codec=codec)).starts.tolist() == starts


def test_decoding_begins_at_whole_keys_that_say_so_alone() -> None:
    traits = {"idr": PacketTraits(idr=True), "no start": PacketTraits(start=False)}
    packets = [
        packet(0, key=True, traits=traits["idr"]),
        packet(2, traits=traits["idr"]),
        packet(4, key=True, traits=traits["no start"]),
        broken(6, key=True),
        packet(8, key=True),
        packet(10, key=True, traits=traits["idr"]),
    ]
    timeline = arrange(video(*packets))
    assert (timeline.starts.tolist(), timeline.idr) == ([0, 4, 5], {0, 5})
    assert timeline.packets.tolist() == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("levels", "spare"),
    [
        ((-1, -1, -1), (False, False, False)),
        ((-1, 0, -1), (False, True, False)),
        # Those of the lower level are leaned on by those of the higher one.
        ((-1, 0, 1), (False, False, True)),
    ],
)
def test_pictures_of_the_highest_level_can_be_left_out(
    levels: tuple[int, ...], spare: tuple[bool, ...]
) -> None:
    packets = [
        packet(pts, key=not pts, traits=PacketTraits(disposable=level))
        for pts, level in enumerate(levels)
    ]
    assert arrange(video(*packets)).disposable.tolist() == list(spare)


@pytest.mark.parametrize(
    ("kinds", "hidden"),
    [
        # A packet of two pictures, and one without that shows the second.
        ("I2-P", []),
        ("I2--P", [3]),
        ("I-2-P", [1]),
        ("I22---", [5]),
        ("I2-2--", [5]),
    ],
)
def test_a_packet_of_two_pictures_has_one_shown_by_the_next_without(
    kinds: str, hidden: list[int]
) -> None:
    packets = [
        packet(at, key=not at, dts=at, traits=PacketTraits(packed=kind == "2", no_show=kind == "-"))
        for at, kind in enumerate(kinds)
    ]
    timeline = arrange(video(*packets, codec="mpeg4"))
    assert not timeline.by_time
    assert np.flatnonzero(timeline.no_show).tolist() == hidden
    assert timeline.packets.tolist() == [at for at in range(len(kinds)) if at not in hidden]


@pytest.mark.parametrize(
    ("format", "codec", "reorders", "by_time"),
    [
        ("avi", "h264", True, False),
        ("avi", "hevc", True, False),
        ("avi", "h264", False, True),
        ("avi", "mpeg4", True, True),
        ("mov", "h264", True, True),
    ],
)
def test_an_avi_has_no_times_of_pictures_that_are_reordered(
    format: str, codec: str, reorders: bool, by_time: bool
) -> None:
    packets = [packet(0, key=True, dts=0), packet(4, dts=2), packet(2, dts=4)]
    source = VideoFile(BytesIO(), format, 1)
    timeline = arrange(replace(video(*packets, codec=codec), source=source, reorders=reorders))
    assert timeline.by_time == by_time


@pytest.mark.parametrize(
    ("kinds", "times", "by_time"),
    [
        ("IPBBPBB", (0, 6, 2, 4, 12, 8, 10), True),
        ("IPBBPBB", (0, 2, 4, 6, 8, 10, 12), False),
        # The first P is lost.
        ("IBBPBBPBB", (0, 2, 4, 12, 8, 10, 18, 14, 16), True),
    ],
    ids=["in order", "those of decoding", "a lost packet"],
)
def test_pictures_that_are_shown_early_tell_whether_times_can_be_right(
    kinds: str, times: tuple[int, ...], by_time: bool
) -> None:
    packets = [
        packet(time, key=kind == "I", dts=at, traits=PacketTraits(early=kind == "B"))
        for at, (time, kind) in enumerate(zip(times, kinds, strict=True))
    ]
    timeline = arrange(video(*packets, codec="mpeg4"))
    assert timeline.by_time == by_time
