"""Properties of coded packets, read from their bytes without decoding.

They include whether a packet can be skipped and whether it is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

# Codecs whose packets are independent of others if the container marks them as keyframes.
_INTRA_KEYS = frozenset({"mjpeg", "vp8", "vp9", "av1", "ffv1", "prores", "png", "rawvideo"})


# Codecs whose packets show by themselves whether decoding can start at them.
TELLS_KEYS = _INTRA_KEYS | {"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "h263"}

# Codecs whose packets show whether their frame is shown before one that is decoded earlier.
TELLS_EARLY = frozenset({"h264", "mpeg4", "mpeg1video", "mpeg2video"})


class PacketTraits(NamedTuple):
    """Properties of one packet.

    Attributes:
        intact: whether the structure of the packet is valid.
        start: whether decoding can start here if the container marks the packet as a keyframe.
        idr: whether such a packet may also follow any other packet without a reset of the decoder.
        disposable: temporal level of a packet that no other frame of this level or a lower one
            depends on; otherwise -1.
        no_show: whether the packet gives no frame.
        early: whether the frame is shown before one that is decoded earlier.
        packed: whether the packet holds two frames, of which a later `no_show` packet shows the
            second.
    """

    intact: bool = True
    start: bool = True
    idr: bool = False
    disposable: int = -1
    no_show: bool = False
    early: bool = False
    packed: bool = False


def packet_reader(codec: str, extradata: bytes) -> Callable[[bytes], PacketTraits]:
    """Return a function that reads the traits of a stream's packets from their bytes.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: header of the codec, as the container stores it.
    """
    if codec in ("h264", "hevc"):
        offset = 4 if codec == "h264" else 21
        prefix = (
            (extradata[offset] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > offset else 0
        )
        return partial(_h264 if codec == "h264" else _hevc, prefix)
    if codec == "mpeg4":
        return partial(_mpeg4, _bits_of_time(extradata))
    if codec in _READERS:
        return _READERS[codec]
    traits = PacketTraits(idr=codec in _INTRA_KEYS)
    return lambda data: traits


def _units(data: bytes, prefix: int) -> Iterator[int]:
    """Yield the offset of each unit of a packet, and -1 if the packet is damaged.

    Args:
        data: content of the packet.
        prefix: number of bytes of a unit's length; 0 if start codes separate the units.
    """
    offset = 0
    if not prefix:
        while (offset := data.find(b"\0\0\1", offset) + 3) > 2:
            if offset < len(data):
                yield offset
        return
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + prefix], "big")
        offset += prefix
        if not length or offset + length > len(data):
            yield -1
            return
        yield offset
        offset += length


def _h264(prefix: int, data: bytes) -> PacketTraits:
    slices = []
    for offset in _units(data, prefix):
        # The first bit of a unit is always 0.
        if offset < 0 or data[offset] & 0x80:
            return PacketTraits(intact=False)
        if 1 <= data[offset] & 31 <= 5:
            slices.append(offset)
    if not slices:
        return PacketTraits(start=False)
    first = slices[0]
    idr = data[first] & 31 == 5
    # The number of the slice's first block, which is 0, and the type of the slice.
    header = int.from_bytes(data[first + 1 : first + 2])
    # Type I at the frame's first block. This excludes a gradual refresh, whose first frames are
    # never shown.
    intra = header & 0xF0 == 0xB0 or header == 0x88
    disposable = all(data[offset] & 0x60 == 0 for offset in slices)
    # Type B at the frame's first block.
    early = header & 0xF0 == 0xA0 or header & 0xFC == 0x9C
    return PacketTraits(
        start=idr or intra, idr=idr, disposable=0 if disposable else -1, early=early
    )


def _hevc(prefix: int, data: bytes) -> PacketTraits:
    lowest, start = None, False
    for offset in _units(data, prefix):
        if offset < 0 or data[offset] & 0x80 or offset + 1 >= len(data):
            return PacketTraits(intact=False)
        kind, level = data[offset] >> 1 & 63, (data[offset + 1] & 7) - 1
        if kind < 32:
            start = start or 16 <= kind <= 23
            disposable = level if kind < 16 and kind % 2 == 0 else -1
            lowest = disposable if lowest is None else min(lowest, disposable)
    return PacketTraits(start=start, disposable=-1 if lowest is None else lowest)


def _bits_of_time(header: bytes) -> int:
    """Return the number of bits of a frame's time in MPEG-4 Part 2, or 0 if it is unknown.

    Args:
        header: header with the video object layer.
    """
    layer = next((offset for offset in _units(header, 0) if 0x20 <= header[offset] <= 0x2F), -1)
    if layer < 0:
        return 0
    bits = _Bits(header, layer + 1)
    # Random access flag and type of the object.
    bits.read(9)
    version = bits.read(7) >> 3 if bits.read(1) else 1
    if bits.read(4) == 15:
        # Aspect ratio of a pixel.
        bits.read(16)
    if bits.read(1):
        # Control parameters: chroma format, low delay, and five numbers of the buffer.
        bits.read(3)
        if bits.read(1):
            bits.read(79)
    if bits.read(2) == 3 and version != 1:
        # Extension of the greyscale shape.
        bits.read(4)
    bits.read(1)
    return (bits.read(16) - 1).bit_length() or 1


class _Bits:
    """Reader of numbers of any number of bits from 32 bytes; past their end, numbers are 0."""

    def __init__(self, data: bytes, begin: int) -> None:
        self._value = int.from_bytes(data[begin : begin + 32].ljust(32, b"\0"), "big")
        self._left = 256

    def read(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self._left -= count
        return 0 if self.is_past_end else self._value >> self._left & ((1 << count) - 1)

    @property
    def is_past_end(self) -> bool:
        """Whether a number went past the end."""
        return self._left < 0


def _mpeg4(bits_of_time: int, data: bytes) -> PacketTraits:
    begins = [
        offset + 1 for offset in _units(data, 0) if data[offset] == 0xB6 and offset + 1 < len(data)
    ]
    kinds = [data[offset] >> 6 for offset in begins]
    coded = [_is_coded(bits_of_time, data, offset) for offset in begins]
    return PacketTraits(
        intact=bool(kinds) and None not in coded,
        start=0 in kinds[:1],
        disposable=0 if set(kinds) == {2} else -1,
        no_show=bool(kinds) and not any(coded),
        early=2 in kinds[:1],
        packed=coded.count(True) > 1,
    )


def _is_coded(bits_of_time: int, data: bytes, begin: int) -> bool | None:
    """Return whether an MPEG-4 Part 2 frame is coded; a frame that is not gives no output.

    None if the header is damaged: the number of seconds does not end.
    """
    bits = _Bits(data, begin)
    bits.read(2)
    while bits.read(1):
        pass
    bits.read(1 + bits_of_time + 1)
    is_coded = bits_of_time == 0 or bits.read(1) == 1
    return None if bits.is_past_end else is_coded


def _mpeg2(data: bytes) -> PacketTraits:
    kinds = [
        data[offset + 2] >> 3 & 7
        for offset in _units(data, 0)
        if not data[offset] and offset + 2 < len(data)
    ]
    return PacketTraits(
        intact=bool(kinds),
        start=1 in kinds[:1],
        disposable=0 if set(kinds) == {3} else -1,
        early=3 in kinds[:1],
    )


def _h263(data: bytes) -> PacketTraits:
    # After 22 bits of start code and 8 bits of time, 8 bits describe the type: bits 5 to 7 are the
    # format, and the next bit is 1 if the frame depends on another.
    bits = _Bits(data, 0)
    bits.read(35)
    if bits.read(3) != 7:
        return PacketTraits(start=bits.read(1) == 0)
    # Extended header: whether it is complete, its options, and the frame's type.
    is_complete = bits.read(3) == 1
    bits.read(18 if is_complete else 0)
    return PacketTraits(start=is_complete and bits.read(3) == 0)


def _vp8(data: bytes) -> PacketTraits:
    key = not data[0] & 1
    return PacketTraits(start=key, idr=key, no_show=not data[0] & 0x10)


_READERS: dict[str, Callable[[bytes], PacketTraits]] = {
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "h263": _h263,
    "vp8": _vp8,
}
