"""What a coded packet says of itself without being decoded: may it be left out, is it whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

# Every packet of these that the container marks as a key stands alone.
_INTRA_KEYS = frozenset({"mjpeg", "vp8", "vp9", "av1", "ffv1", "prores", "png", "rawvideo"})


class Traits(NamedTuple):
    """Of one packet.

    Attributes:
        whole: its structure is sound.
        start: if the container marks it as a key, decoding may begin here.
        joins: if so, it may also follow anything else without the decoder being reset.
        spare: no other picture of its temporal level or a lower one leans on it; else -1.
        hidden: it gives no picture.
    """

    whole: bool = True
    start: bool = True
    joins: bool = False
    spare: int = -1
    hidden: bool = False


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
    if codec in ("mpeg4", "mpeg1video", "mpeg2video"):
        return _mpeg4 if codec == "mpeg4" else _mpeg2
    if codec == "vp8":
        return _vp8
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
    return Traits(start=idr or intra, joins=idr, spare=0 if spare else -1)


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


def _mpeg4(data: bytes) -> Traits:
    kinds = [data[at + 1] >> 6 for at in _units(data, 0) if data[at] == 0xB6 and at + 1 < len(data)]
    return Traits(whole=bool(kinds), spare=0 if kinds and set(kinds) == {2} else -1)


def _mpeg2(data: bytes) -> Traits:
    kinds = [data[at + 2] >> 3 & 7 for at in _units(data, 0) if not data[at] and at + 2 < len(data)]
    return Traits(whole=bool(kinds), spare=0 if kinds and set(kinds) == {3} else -1)


def _vp8(data: bytes) -> Traits:
    return Traits(joins=True, hidden=not data[0] & 0x10)
