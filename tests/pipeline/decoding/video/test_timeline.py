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
    broken = packet(2, traits=PacketTraits(intact=False))
    # Packet 4 is shown before the key that it comes after: it leans on what is lost.
    rest = (packet(10, key=True), packet(8), packet(12))
    timeline = arrange(video(packet(0, key=True), broken, *rest))
    assert timeline.packets.tolist() == [0, 2, 4]
    assert timeline.degraded == "damaged: 3 of 5 frames can be read"


def test_without_a_whole_picture_a_file_is_unreadable() -> None:
    with pytest.raises(ProbeError, match="none of its frames is whole"):
        arrange(video(packet(0, key=True, traits=PacketTraits(intact=False)), packet(2)))


@pytest.mark.parametrize(
    ("dts", "starts_s"),
    [([4, 6, 9], [0.0, 1.0, 2.5]), ([4, None, 9], [0.0, 0.1, 0.2])],
    ids=["all decoding times", "some"],
)
def test_without_all_times_of_showing_pictures_are_counted(
    dts: list[int | None], starts_s: list[float]
) -> None:
    packets = [packet(None if at == 1 else at, dts=time) for at, time in enumerate(dts)]
    timeline = arrange(video(*packets))
    assert not timeline.by_time and timeline.packets.tolist() == [0, 1, 2]
    assert timeline.starts_s == pytest.approx(starts_s)


def test_a_single_picture_bears_the_time_of_its_packet() -> None:
    timeline = arrange(video(packet(6, key=True)))
    assert timeline.by_time
    assert (timeline.starts_s.tolist(), timeline.end_s) == ([0.0], 1.0)


def test_times_that_were_guessed_or_are_all_the_same_are_not_the_pictures_own() -> None:
    packets = [packet(0, key=True, dts=0), packet(4, dts=2)]
    assert arrange(video(*packets)).by_time
    # A decoder that reorders, of packets in the order of their times.
    assert not arrange(replace(video(*packets), reorders=True, codec="vc1")).by_time
    assert not arrange(video(packet(4, key=True), packet(4))).by_time


@pytest.mark.parametrize("step", [1, 3])
def test_the_last_picture_is_shown_as_long_as_the_others_where_its_packet_does_not_say(
    step: int,
) -> None:
    packets = [packet(place * step, key=True)._replace(duration=0) for place in range(4)]
    assert arrange(video(*packets)).end_s == 4 * step * 0.5


def test_pictures_of_one_time_share_it_out() -> None:
    timeline = arrange(video(*(packet(pts, key=True) for pts in (0, 4, 4, 8))))
    assert timeline.starts_s.tolist() == [0.0, 2.0, 3.0, 4.0]
    assert (np.diff(timeline.starts_s) > 0).all()


@pytest.mark.parametrize(
    ("codec", "spare", "starts"),
    [("h264", -1, [0]), ("h264", 0, [0, 2]), ("hevc", -1, [0, 2])],
    ids=["h264, leaned on", "h264, spare", "hevc"],
)
def test_where_decoding_can_begin(codec: str, spare: int, starts: list[int]) -> None:
    # Packet 3 is shown before the key that it comes after.
    early = packet(4, traits=PacketTraits(start=False, disposable=spare))
    others = (packet(0, key=True), packet(2), packet(6, key=True), early, packet(8))
    assert arrange(video(*others, codec=codec)).starts.tolist() == starts


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
