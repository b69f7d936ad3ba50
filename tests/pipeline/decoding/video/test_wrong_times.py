"""Where a container's times are not those of its pictures, sampled pictures are still those of a
film that is decoded whole."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.decode import Frames, decode
from intertitle.pipeline.decoding.sampling import Every, Sampling, Uniform
from tests.pipeline.decoding.video.films import WIDTH, with_pyav, write

ITEM = Item("a", "a", "video")


class Coded(NamedTuple):
    """A packet to be written; times are numbers of frames."""

    data: bytes
    pts: int | None
    dts: int
    key: bool


def coded(path: Path) -> list[Coded]:
    with av.open(path) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        unit = round(1 / 25 / packets[0].time_base)
        return [
            Coded(bytes(p), p.pts and p.pts // unit, index, p.is_keyframe)
            for index, p in enumerate(packets)
        ]


def write_coded(path: Path, template: Path, packets: list[Coded]) -> Path:
    with av.open(template) as source, av.open(path, "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for data, pts, dts, key in packets:
            packet = av.Packet(data)
            packet.time_base, packet.stream = Fraction(1, 25), stream
            packet.pts, packet.dts, packet.is_keyframe = pts, dts, key
            container.mux_one(packet)
    return path


def sampled(path: Path, rule: Sampling, size: int = WIDTH) -> Frames:
    frames = decode(path, ITEM, rule, size)
    assert frames.degraded is None
    return frames


def assert_as_decoded_whole(path: Path, num_frames: int, size: int = WIDTH) -> None:
    pictures = with_pyav(path, size).astype(int)
    everything = sampled(path, Every(1), size)
    assert len(pictures) == len(everything.pixels) == num_frames
    for rule in (Every(1), Every(7), Uniform(1), Uniform(8)):
        frames = sampled(path, rule, size)
        indices = np.searchsorted(everything.times_s, frames.times_s)
        assert np.abs(frames.pixels - pictures[indices]).max() <= 1, rule


# A picture of MPEG-4 Part 2 without content, at 25 frames a second: its kind is P, no second has
# passed, a mark, five bits of time, a mark, "not coded", and what fills the byte.
NOT_CODED = b"\0\0\1\xb6" + int("01" + "0" + "1" + "00011" + "1" + "0" + "01111", 2).to_bytes(
    2, "big"
)


def write_packed(path: Path, num_frames: int = 30) -> Path:
    """MPEG-4 in AVI as XviD and DivX wrote it for VirtualDub, which knew one picture a packet.

    A picture that is shown early comes in the packet of the one that it leans on; a picture without
    content keeps its place.
    """
    plain = write(path.with_name("plain.avi"), "mpeg4", options={"bf": "1"}, num_frames=num_frames)
    packets = [packet.data for packet in coded(plain)]
    begin = packets[0].index(b"\0\0\1\xb6")
    packets[0] = packets[0][:begin] + b"\0\0\1\xb2DivX503b1393p" + packets[0][begin:]
    packed: list[bytes] = []
    for data in packets:
        if data[data.index(b"\0\0\1\xb6") + 4] >> 6 == 2:
            packed[-1] += data
            data = NOT_CODED
        packed.append(data)
    assert NOT_CODED in packed
    keys = [data[data.index(b"\0\0\1\xb6") + 4] >> 6 == 0 for data in packed]
    return write_coded(
        path, plain, [Coded(data, at, at, keys[at]) for at, data in enumerate(packed)]
    )


@pytest.mark.parametrize(
    ("num_frames", "size"), [(3, WIDTH), (30, WIDTH), (30, 96), (30, 144), (30, 224)]
)
def test_pictures_that_share_a_packet(num_frames: int, size: int, tmp_path: Path) -> None:
    path = write_packed(tmp_path / "packed.avi", num_frames)
    assert_as_decoded_whole(path, num_frames, size)


@pytest.mark.parametrize(
    ("container", "size"), [("avi", WIDTH), ("avi", 96), ("mp4", WIDTH), ("mkv", 144)]
)
def test_pictures_without_content_are_none(container: str, size: int, tmp_path: Path) -> None:
    plain = write(tmp_path / f"plain.{container}", "mpeg4", options={"bf": "0"}, num_frames=30)
    packets = coded(plain)
    for at in (5, 6, 7, 20):
        packets[at] = packets[at]._replace(data=NOT_CODED)
    path = write_coded(tmp_path / f"dropped.{container}", plain, packets)
    assert_as_decoded_whole(path, 26, size)
    times = np.rint(sampled(path, Every(1)).times_s * 25).tolist()
    assert times == [at for at in range(30) if at not in (5, 6, 7, 20)]


X265 = "log-level=none:keyint=12:min-keyint=12:bframes=2"


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg4", {"bf": "2"}),
        ("libx264", {"bf": "2"}),
        ("mpeg2video", {"bf": "2"}),
        ("libx265", {"x265-params": X265}),
    ],
)
def test_times_of_showing_that_are_those_of_decoding(
    codec: str, options: dict[str, str], container: str, tmp_path: Path
) -> None:
    plain = write(tmp_path / f"plain.{container}", codec, options=options, num_frames=30)
    packets = [packet._replace(pts=packet.dts) for packet in coded(plain)]
    assert_as_decoded_whole(write_coded(tmp_path / f"a.{container}", plain, packets), 30)


def test_marks_of_keys_that_are_no_keys(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.mkv", "mpeg4", options={"bf": "0"}, num_frames=30)
    packets = [packet._replace(key=True) for packet in coded(plain)]
    assert_as_decoded_whole(write_coded(tmp_path / "a.mkv", plain, packets), 30)


@pytest.mark.parametrize("rate", [25, 30, 15, Fraction(30000, 1001), 10, 24])
def test_films_as_video_corpora_hold_them(rate: Fraction | int, tmp_path: Path) -> None:
    # MPEG-4 without early pictures in AVI, whatever the rate.
    path = write(tmp_path / "a.avi", "mpeg4", rate=rate, num_frames=40)
    assert_as_decoded_whole(path, 40)


# Lists of edits


def write_edited(path: Path, edits: list[tuple[int, int]], b_frames: int, flags: str = "") -> Path:
    """An mp4 that shows only parts of its film: (first frame, how many) each."""
    write(path, "libx264", options={"bf": str(b_frames)}, num_frames=40, flags=flags)
    data = bytearray(path.read_bytes())
    scale = 25 * 512
    at = data.index(b"mdhd")
    assert struct.unpack(">I", data[at + 16 : at + 20]) == (scale,)
    at = data.index(b"elst")
    count, _, delay, _ = struct.unpack(">4I", data[at + 8 : at + 24])
    assert count == 1
    old = data[at - 4 : at + 24]
    entries = b"".join(
        struct.pack(">IIHH", number * 40, delay + first * 512, 1, 0) for first, number in edits
    )
    new = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    data[at - 4 : at + 24] = new
    # The boxes around it have grown: the data had better come before them.
    assert len(new) == len(old) or data.index(b"mdat") < at
    for box in (b"edts", b"trak", b"moov"):
        start = data.index(box) - 4
        (length,) = struct.unpack(">I", data[start : start + 4])
        data[start : start + 4] = struct.pack(">I", length + len(new) - len(old))
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "edits",
    [[(0, 17)], [(12, 28)], [(17, 10)], [(5, 6), (24, 10)], [(24, 10), (0, 12)]],
    ids=["the end is cut away", "the beginning", "both, within a group", "the middle", "turned"],
)
@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_film_with_a_list_of_edits_is_those_of_the_edit(
    edits: list[tuple[int, int]], b_frames: int, tmp_path: Path
) -> None:
    path = write_edited(tmp_path / "a.mp4", edits, b_frames)
    pictures = with_pyav(path, WIDTH)
    assert_as_decoded_whole(path, len(pictures))
    assert abs(len(pictures) - sum(number for _, number in edits)) <= 3


def test_a_film_cut_short_in_spite_of_its_edits(tmp_path: Path) -> None:
    path = write_edited(tmp_path / "a.mp4", [(0, 38)], 0, "faststart")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    frames = decode(path, ITEM, Every(1), WIDTH)
    assert frames.degraded and frames.degraded.startswith("cut short")
    assert 5 < len(frames.pixels) < 38
