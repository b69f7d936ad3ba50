"""What a coded packet says of itself without being decoded: may it be left out, is it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

# Every packet of these that the container marks as a key stands alone.
_INTRA_KEYS = frozenset({"mjpeg", "vp8", "vp9", "av1", "ffv1", "prores", "png", "rawvideo"})


# Packets of these tell by themselves whether decoding may begin there ...
TELLS_KEYS = _INTRA_KEYS | {"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "h263"}

# ... and of these whether their picture is shown before one that is decoded earlier.
TELLS_EARLY = frozenset({"h264", "mpeg4", "mpeg1video", "mpeg2video"})


class Traits(NamedTuple):
    """Of one packet.

    Attributes:
        whole: its structure is sound.
        start: if the container marks it as a key, decoding may begin here.
        joins: if so, it may also follow anything else without the decoder being reset.
        spare: no other picture of its temporal level or a lower one leans on it; else -1.
        hidden: it gives no picture.
        early: its picture is shown before one that is decoded earlier.
        packed: it holds two pictures, of which a later hidden packet shows the second.
    """

    whole: bool = True
    start: bool = True
    joins: bool = False
    spare: int = -1
    hidden: bool = False
    early: bool = False
    packed: bool = False


def packet_reader(codec: str, extradata: bytes) -> Callable[[bytes], Traits]:
    """A function that reads packets of a stream.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: the codec's header, as the container holds it.
    """
    if codec in ("h264", "hevc"):
        at = 4 if codec == "h264" else 21
        prefix = (extradata[at] & 3) + 1 if extradata[:1] == b"\1" and len(extradata) > at else 0
        return partial(_h264 if codec == "h264" else _hevc, prefix)
    if codec == "mpeg4":
        return partial(_mpeg4, _bits_of_time(extradata))
    if codec in _READERS:
        return _READERS[codec]
    joins = Traits(joins=codec in _INTRA_KEYS)
    return lambda data: joins


def _units(data: bytes, prefix: int) -> Iterator[int]:
    """Where each unit of a packet begins; -1 if the packet is damaged.

    Args:
        data: the packet.
        prefix: how many bytes tell a unit's length; 0 if start codes part them.
    """
    at = 0
    if not prefix:
        while (at := data.find(b"\0\0\1", at) + 3) > 2:
            if at < len(data):
                yield at
        return
    while at < len(data):
        length = int.from_bytes(data[at : at + prefix], "big")
        at += prefix
        if not length or at + length > len(data):
            yield -1
            return
        yield at
        at += length


def _h264(prefix: int, data: bytes) -> Traits:
    slices = []
    for at in _units(data, prefix):
        # The first bit of a unit is always 0.
        if at < 0 or data[at] & 0x80:
            return Traits(whole=False)
        if 1 <= data[at] & 31 <= 5:
            slices.append(at)
    if not slices:
        return Traits(start=False)
    first = slices[0]
    idr = data[first] & 31 == 5
    # Slice type I at the picture's first block: not a gradual refresh, whose first pictures are
    # never shown.
    intra = first + 1 < len(data) and (data[first + 1] & 0xF0 == 0xB0 or data[first + 1] == 0x88)
    spare = all(data[at] & 0x60 == 0 for at in slices)
    # Slice type B at the picture's first block.
    begin = data[first + 1] if first + 1 < len(data) else 0
    early = begin & 0xF0 == 0xA0 or begin & 0xFC == 0x9C
    return Traits(start=idr or intra, joins=idr, spare=0 if spare else -1, early=early)


def _hevc(prefix: int, data: bytes) -> Traits:
    spare, start = None, False
    for at in _units(data, prefix):
        if at < 0 or data[at] & 0x80 or at + 1 >= len(data):
            return Traits(whole=False)
        kind, level = data[at] >> 1 & 63, (data[at + 1] & 7) - 1
        if kind < 32:
            start = start or 16 <= kind <= 23
            mine = level if kind < 16 and kind % 2 == 0 else -1
            spare = mine if spare is None else min(spare, mine)
    return Traits(start=start, spare=-1 if spare is None else spare)


def _bits_of_time(header: bytes) -> int:
    """How many bits a picture's time takes in MPEG-4 Part 2, by the header of its layer; or 0."""
    begin = next((at for at in _units(header, 0) if 0x20 <= header[at] <= 0x2F), -1)
    if begin < 0:
        return 0
    bits = _Bits(header, begin + 1)
    # Whether decoding can begin anywhere, and the kind of object.
    bits.read(9)
    version = bits.read(7) >> 3 if bits.read(1) else 1
    if bits.read(4) == 15:
        # The shape of a pixel.
        bits.read(16)
    if bits.read(1):
        # Control: colours, delay, and a buffer of five numbers.
        bits.read(3)
        if bits.read(1):
            bits.read(79)
    if bits.read(2) == 3 and version != 1:
        # A grey shape and its extension.
        bits.read(4)
    bits.read(1)
    return (bits.read(16) - 1).bit_length() or 1


class _Bits:
    """Reads numbers of any number of bits; after the end they are zeros."""

    def __init__(self, data: bytes, begin: int) -> None:
        self._value = int.from_bytes(data[begin : begin + 32].ljust(32, b"\0"), "big")
        self._left = 256

    def read(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & ((1 << count) - 1)


def _mpeg4(bits_of_time: int, data: bytes) -> Traits:
    begins = [at + 1 for at in _units(data, 0) if data[at] == 0xB6 and at + 1 < len(data)]
    kinds = [data[at] >> 6 for at in begins]
    coded = sum(_is_coded(bits_of_time, data, at) for at in begins)
    return Traits(
        whole=bool(kinds),
        start=0 in kinds[:1],
        spare=0 if set(kinds) == {2} else -1,
        hidden=bool(kinds) and not coded,
        early=2 in kinds[:1],
        packed=coded > 1,
    )


def _is_coded(bits_of_time: int, data: bytes, begin: int) -> bool:
    """Whether a picture of MPEG-4 Part 2 has any content: one that has none is not given."""
    bits = _Bits(data, begin)
    bits.read(2)
    while bits.read(1):
        pass
    bits.read(1 + bits_of_time + 1)
    return bits_of_time == 0 or bits.read(1) == 1


def _mpeg2(data: bytes) -> Traits:
    kinds = [data[at + 2] >> 3 & 7 for at in _units(data, 0) if not data[at] and at + 2 < len(data)]
    return Traits(
        whole=bool(kinds),
        start=1 in kinds[:1],
        spare=0 if set(kinds) == {3} else -1,
        early=3 in kinds[:1],
    )


def _h263(data: bytes) -> Traits:
    # After 22 bits of start code and 8 of time: eight bits of the kind, of which the fifth to the
    # seventh are the format and the next says whether it leans on another.
    bits = _Bits(data, 0)
    bits.read(35)
    if (form := bits.read(3)) != 7:
        return Traits(start=bits.read(1) == 0)
    # The extended header: whether it is given in full, its options, its kind.
    full = bits.read(3) == 1 and form == 7
    bits.read(18 if full else 0)
    return Traits(start=full and bits.read(3) == 0)


def _vp8(data: bytes) -> Traits:
    key = not data[0] & 1
    return Traits(start=key, joins=key, hidden=not data[0] & 0x10)


_READERS: dict[str, Callable[[bytes], Traits]] = {
    "mpeg1video": _mpeg2,
    "mpeg2video": _mpeg2,
    "h263": _h263,
    "vp8": _vp8,
}
