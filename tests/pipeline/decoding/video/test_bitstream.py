"""What packets say of themselves is what their encoder says of them."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import av
import pytest

from intertitle.pipeline.decoding.video.bitstream import (
    TELLS_EARLY,
    PacketTraits,
    packet_reader,
)
from tests.pipeline.decoding.video.films import write

FAST = {"deadline": "realtime", "cpu-used": "8"}
START = b"\0\0\1"
# The header of H.264 and of HEVC in MP4, which give the number of bytes of a length: 2 and 4.
TWO_BYTES, FOUR_BYTES = b"\1\0\0\0\xfd", b"\1" + bytes(20) + b"\xff"
DAMAGED = PacketTraits(intact=False)


def to_bytes(bits: str) -> bytes:
    """Bits, filled up with ones."""
    bits = bits.replace(" ", "")
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def units(*data: bytes) -> bytes:
    return b"".join(START + unit for unit in data)


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


@pytest.mark.parametrize(
    ("data", "traits"),
    [
        # A header, and the types of slices at the first block; each may hold for the whole frame.
        (units(b"\x67\x88\x88", b"\x65\x88"), PacketTraits(idr=True)),
        (units(b"\x41\x88"), PacketTraits()),
        (units(b"\x41\xb8"), PacketTraits()),
        (units(b"\x41\xc0"), PacketTraits(start=False)),
        (units(b"\x41\x98"), PacketTraits(start=False)),
        (units(b"\x41\xa0"), PacketTraits(start=False, early=True)),
        (units(b"\x41\x9f"), PacketTraits(start=False, early=True)),
        # Data partitions; a slice without its type; other blocks than the first.
        (units(b"\x61\x88"), PacketTraits()),
        (units(b"\x41"), PacketTraits(start=False)),
        (units(b"\x41\x58"), PacketTraits(start=False)),
        # No frame refers to one whose slices all say so.
        (units(b"\x01\x9c"), PacketTraits(start=False, early=True, disposable=0)),
        (units(b"\x01\x9c", b"\x01\x40"), PacketTraits(start=False, early=True, disposable=0)),
        (units(b"\x01\x9c", b"\x21\x40"), PacketTraits(start=False, early=True)),
        # No slice: types 0 and 6 are none.
        (units(b"\x09\x88"), PacketTraits(start=False)),
        (units(b"\x06\x88", b"\x00\x88"), PacketTraits(start=False)),
        (units(b"\x65\x88", b"\xc1\x88"), DAMAGED),
        (START, PacketTraits(start=False)),
    ],
)
def test_h264(data: bytes, traits: PacketTraits) -> None:
    assert packet_reader("h264", b"")(data) == traits
    lengths = b"".join(len(unit).to_bytes(2, "big") + unit for unit in data.split(START)[1:])
    if lengths.strip(b"\0"):
        assert packet_reader("h264", TWO_BYTES)(lengths) == traits
        assert packet_reader("h264", TWO_BYTES)(lengths[:-1]) == DAMAGED
    assert packet_reader("h264", TWO_BYTES)(lengths + b"\0\0") == DAMAGED


@pytest.mark.parametrize(
    ("slices", "traits"),
    [
        # Types below 16 that are even are referred to by none of their level, which is less one.
        ([(0, 1)], PacketTraits(start=False, disposable=0)),
        ([(14, 3)], PacketTraits(start=False, disposable=2)),
        ([(14, 0xFB)], PacketTraits(start=False, disposable=2)),
        ([(1, 3)], PacketTraits(start=False)),
        ([(0, 3), (0, 2)], PacketTraits(start=False, disposable=1)),
        ([(0, 2), (0, 3)], PacketTraits(start=False, disposable=1)),
        ([(0, 2), (1, 3)], PacketTraits(start=False)),
        ([(15, 1)], PacketTraits(start=False)),
        ([(16, 2)], PacketTraits()),
        ([(23, 1)], PacketTraits()),
        ([(24, 2)], PacketTraits(start=False)),
        ([(19, 1), (1, 1)], PacketTraits()),
        ([(32, 2), (39, 2)], PacketTraits(start=False)),
        ([(32, 1), (31, 2)], PacketTraits(start=False)),
    ],
)
def test_hevc(slices: list[tuple[int, int]], traits: PacketTraits) -> None:
    data = [bytes([kind << 1, level]) for kind, level in slices]
    assert packet_reader("hevc", b"")(units(*data)) == traits
    assert packet_reader("hevc", b"")(units(*data, b"\x02")) == DAMAGED
    assert packet_reader("hevc", b"")(units(*data, b"\x82\x01")) == DAMAGED
    lengths = b"".join(len(unit).to_bytes(4, "big") + unit for unit in data)
    assert packet_reader("hevc", FOUR_BYTES)(lengths) == traits


def picture(kind: int, is_coded: bool, bits_of_time: int) -> bytes:
    """A frame of MPEG-4 Part 2, in whose header all else is ones."""
    rest = f"{kind:02b} 1110 1 {'1' * bits_of_time} 1 {int(is_coded)} 1"
    return START + b"\xb6" + to_bytes(rest)


@pytest.mark.parametrize("code", [0x20, 0x2F])
def test_the_header_of_mpeg4_says_where_a_frame_says_that_it_is_not_coded(code: int) -> None:
    identifiers = {1: ("0", "1 0001 111"), 2: ("1 0010 111",)}
    aspects = ("0001", "1110", f"1111 {'1' * 16}")
    controls = ("0", "1 111 0", f"1 111 1 {'1' * 79}", f"1 000 1 {'0' * 79}")
    resolutions = {1: 1, 2: 1, 3: 2, 25: 5, 30000: 15}
    for version, shape in product(identifiers, ("00", "11")):
        extension = "1111" if (version, shape) == (2, "11") else ""
        for identifier, aspect, control in product(identifiers[version], aspects, controls):
            for resolution, bits_of_time in resolutions.items():
                header = f"1 11111111 {identifier} {aspect} {control} {shape} {extension} 1"
                layer = START + bytes([code]) + to_bytes(f"{header} {resolution:016b}")
                read = packet_reader("mpeg4", b"\0\0\1\0" + layer)
                shown = [
                    not read(picture(1, is_coded, bits_of_time)).no_show for is_coded in (0, 1)
                ]
                assert shown == [False, True], header


def test_frames_of_mpeg4() -> None:
    header = START + b"\x20" + to_bytes(f"1 11111111 0 0001 0 00 1 {25:016b}")
    read = packet_reader("mpeg4", header)
    key, other, early = (picture(kind, True, 5) for kind in (0, 1, 2))
    skipped = picture(1, False, 5)
    assert read(header + key) == PacketTraits()
    assert read(other) == PacketTraits(start=False)
    assert read(early) == PacketTraits(start=False, disposable=0, early=True)
    assert read(skipped) == PacketTraits(start=False, no_show=True)
    assert read(other + early) == PacketTraits(start=False, packed=True)
    assert read(key + skipped) == PacketTraits()
    # The start of a frame, and no more; no frame.
    assert read(other + START + b"\xb6") == PacketTraits(start=False)
    assert not read(START + b"\xb6").intact and not read(header).intact
    # Without a known header each frame counts as coded.
    for code in (b"\x1f", b"\x30"):
        assert not packet_reader("mpeg4", START + code + header[4:])(skipped).no_show


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
def test_mpeg2(codec: str) -> None:
    read = packet_reader(codec, b"")
    # After the number of the frame, of 10 bits: its type.
    first, second, third = (b"\0" + to_bytes(f"{1023:010b} {kind:03b}") for kind in (1, 2, 3))
    assert read(units(b"\xb3\xff\xff\xff", first)) == PacketTraits()
    assert read(units(second)) == PacketTraits(start=False)
    assert read(units(third, b"\1\xff\xff\xff")) == PacketTraits(
        start=False, disposable=0, early=True
    )
    assert read(units(third, second)) == PacketTraits(start=False, early=True)
    assert not read(units(second[:2])).intact and not read(units(b"\1\xff\x08")).intact


@pytest.mark.parametrize(
    ("after_the_size", "is_key"),
    [
        ("010 0", True),
        ("010 1", False),
        # Extended: complete or not, 18 bits of options, the type.
        (f"111 001 {'1' * 18} 000", True),
        (f"111 001 {'0' * 18} 001", False),
        (f"111 000 {'0' * 18} 000", False),
    ],
)
def test_h263(after_the_size: str, is_key: bool) -> None:
    start = f"{'0' * 16} 100000 {'1' * 8} 10000"
    assert packet_reader("h263", b"")(to_bytes(start + after_the_size)).start == is_key


def test_vp8_and_codecs_of_which_nothing_is_read() -> None:
    read = packet_reader("vp8", b"")
    assert read(b"\x10") == PacketTraits(idr=True)
    assert read(b"\x11") == PacketTraits(start=False)
    assert read(b"\x01") == PacketTraits(start=False, no_show=True)
    assert packet_reader("vp9", b"")(b"") == PacketTraits(idr=True)
    assert packet_reader("wmv2", b"")(b"") == PacketTraits()
