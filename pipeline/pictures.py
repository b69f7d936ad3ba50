"""Which image format a file has, and when the pictures of an animation are shown: read from the
bytes of the file alone, without decoding a pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

Format = Literal["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF"]

# What may hold several pictures that follow each other in time.
ANIMATION_FORMATS: frozenset[Format | None] = frozenset({"GIF", "PNG", "WEBP", "AVIF"})

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# So many bytes tell whether a PNG, WebP or AVIF is animated: a colour profile may come before.
HEAD_BYTES = 1 << 16

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}

_GIF_EXTENSION, _GIF_PICTURE, _GIF_END = 0x21, 0x2C, 0x3B

# Browsers show a picture that claims less than this for a tenth of a second.
_SHORTEST_S, _USUAL_S = 0.011, 0.1


def picture_format(head: bytes) -> Format | None:
    """The image format of a file that begins with these bytes, or None if it has none."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(PNG_SIGNATURE):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head.startswith(b"BM"):
        return "BMP"
    brands = _brands(head)
    if brands & _AVIF_BRANDS:
        return "AVIF"
    if brands & _HEIF_BRANDS:
        return "HEIF"
    return None


def is_animated(data: bytes) -> bool:
    """Whether a file holds several pictures that follow each other in time.

    Args:
        data: the whole file or its first `HEAD_BYTES`. A GIF without its end is animated if it
            asks to be repeated.
    """
    match picture_format(data):
        case "GIF":
            return b"NETSCAPE2.0" in data[:2048] or len(list(_gif_delays(data))) > 1
        case "PNG":
            return any(
                kind == b"acTL" and int.from_bytes(data[at : at + 4]) > 1
                for kind, at, _ in png_chunks(data)
            )
        case "WEBP":
            return data[12:16] == b"VP8X" and bool(data[20] & 2 if len(data) > 20 else 0)
        case "AVIF":
            return b"avis" in _brands(data)
    return False


def durations_s(data: bytes) -> list[float]:
    """How long each picture of an animated GIF, PNG or WebP is shown, in seconds.

    The durations are those that browsers use: a tenth of a second for a picture that claims 10 ms
    or less. Pictures that are cut off may be missing.
    """
    read = {"GIF": _gif_delays, "PNG": _png_delays, "WEBP": _webp_delays}
    claimed = read[str(picture_format(data))](data)
    return [shown_s(delay) for delay in claimed]


def is_cut(data: bytes) -> bool:
    """Whether the mark at the end of a GIF or PNG is missing."""
    match picture_format(data):
        case "GIF":
            return all(kind != _GIF_END for kind, _ in _gif_blocks(data))
        case "PNG":
            return all(kind != b"IEND" for kind, _, _ in png_chunks(data))
    return False


def shown_s(delay_s: float) -> float:
    """How long a picture is shown that claims so many seconds."""
    return delay_s if delay_s >= _SHORTEST_S else _USUAL_S


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG: the kind, where its content begins, and where the next chunk begins."""
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], at + 8, end
        at = end


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a WebP: the kind, where its content begins, and where its content ends."""
    at = 12
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        yield data[at : at + 4], at + 8, end
        at = end + end % 2


def _brands(head: bytes) -> set[bytes]:
    """The brands that the first box of an ISO base media file names."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[at : at + 4] for at in range(16, end, 4))}


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """The blocks of a GIF, as far as they are there: the kind and where it begins."""
    at = 13 + _colour_table_bytes(data[10:11])
    while at < len(data):
        kind = data[at]
        yield kind, at
        if kind == _GIF_EXTENSION:
            at += 2
        elif kind == _GIF_PICTURE:
            # Where it lies, its own colours, and the width of its codes.
            at += 10 + _colour_table_bytes(data[at + 9 : at + 10]) + 1
        else:
            return
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1


def _gif_delays(data: bytes) -> Iterator[float]:
    """What each picture of a GIF claims, in seconds."""
    delay_s = 0.0
    for kind, at in _gif_blocks(data):
        if kind == _GIF_EXTENSION and data[at + 1 : at + 2] == b"\xf9":
            delay_s = int.from_bytes(data[at + 4 : at + 6], "little") / 100
        elif kind == _GIF_PICTURE:
            yield delay_s
            delay_s = 0.0


def _colour_table_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _png_delays(data: bytes) -> Iterator[float]:
    for kind, at, _ in png_chunks(data):
        if kind == b"fcTL":
            ticks, rate = (int.from_bytes(data[at + n : at + n + 2]) for n in (20, 22))
            yield ticks / (rate or 100)


def _webp_delays(data: bytes) -> Iterator[float]:
    for kind, at, _ in riff_chunks(data):
        if kind == b"ANMF":
            yield int.from_bytes(data[at + 12 : at + 15], "little") / 1000
