"""Image format of a file and durations of an animation, read without decoding any pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

Format = Literal["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF"]

# Formats that may hold an animation.
ANIMATION_FORMATS: frozenset[Format | None] = frozenset({"GIF", "PNG", "WEBP", "AVIF"})

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Number of first bytes that show whether a PNG, WebP or AVIF is animated; a colour profile may
# precede the information.
HEAD_BYTES = 1 << 16

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}

_GIF_EXTENSION, _GIF_PICTURE, _GIF_END = 0x21, 0x2C, 0x3B

# Browsers show a picture whose duration is below the first value for a tenth of a second.
_SHORTEST_S, _USUAL_S = 0.011, 0.1


def picture_format(head: bytes) -> Format | None:
    """Return the image format of a file that begins with these bytes, or None if it is unknown."""
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
    """Return whether a file is an animation.

    Args:
        data: content of the file or its first `HEAD_BYTES`. A truncated GIF counts as animated if
            it contains a loop extension.
    """
    match picture_format(data):
        case "GIF":
            return b"NETSCAPE2.0" in data[:2048] or len(list(_gif_delays(data))) > 1
        case "PNG":
            return any(
                kind == b"acTL" and int.from_bytes(data[offset : offset + 4]) > 1
                for kind, offset, _ in png_chunks(data)
            )
        case "WEBP":
            return data[12:16] == b"VP8X" and bool(data[20] & 2 if len(data) > 20 else 0)
        case "AVIF":
            return b"avis" in _brands(data)
    return False


def durations_s(data: bytes) -> list[float]:
    """Return the durations of the pictures of an animated GIF, PNG or WebP, in seconds.

    The durations are those that browsers use: a tenth of a second for a picture whose file says
    10 ms or less. Pictures of a truncated file may be missing.
    """
    read = {"GIF": _gif_delays, "PNG": _png_delays, "WEBP": _webp_delays}
    claimed = read[str(picture_format(data))](data)
    return [shown_s(delay) for delay in claimed]


def is_cut(data: bytes) -> bool:
    """Return whether a GIF or PNG is truncated: its end marker is missing."""
    match picture_format(data):
        case "GIF":
            return all(kind != _GIF_END for kind, _ in _gif_blocks(data))
        case "PNG":
            return all(kind != b"IEND" for kind, _, _ in png_chunks(data))
    return False


def shown_s(delay_s: float) -> float:
    """Return how long browsers show a picture whose file gives this duration, in seconds."""
    return delay_s if delay_s >= _SHORTEST_S else _USUAL_S


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a PNG: type, offset of the content, and offset of the next chunk."""
    offset = len(PNG_SIGNATURE)
    while offset + 8 <= len(data):
        end = offset + 12 + int.from_bytes(data[offset : offset + 4])
        yield data[offset + 4 : offset + 8], offset + 8, end
        offset = end


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a WebP: type, offset of the content, and offset of its end."""
    offset = 12
    while offset + 8 <= len(data):
        end = offset + 8 + int.from_bytes(data[offset + 4 : offset + 8], "little")
        yield data[offset : offset + 4], offset + 8, end
        offset = end + end % 2


def _brands(head: bytes) -> set[bytes]:
    """Return the brands in the first box of an ISO base media file."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[offset : offset + 4] for offset in range(16, end, 4))}


def _gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the type and offset of the blocks of a GIF, up to its end or where it is truncated."""
    offset = 13 + _colour_table_bytes(data[10:11])
    while offset < len(data):
        kind = data[offset]
        yield kind, offset
        if kind == _GIF_EXTENSION:
            offset += 2
        elif kind == _GIF_PICTURE:
            # Position and size, local colour table, and code size.
            offset += 10 + _colour_table_bytes(data[offset + 9 : offset + 10]) + 1
        else:
            return
        while offset < len(data) and data[offset]:
            offset += data[offset] + 1
        offset += 1


def _gif_delays(data: bytes) -> Iterator[float]:
    """Yield the durations of the pictures of a GIF as its file gives them, in seconds."""
    delay_s = 0.0
    for kind, offset in _gif_blocks(data):
        if kind == _GIF_EXTENSION and data[offset + 1 : offset + 2] == b"\xf9":
            delay_s = int.from_bytes(data[offset + 4 : offset + 6], "little") / 100
        elif kind == _GIF_PICTURE:
            yield delay_s
            delay_s = 0.0


def _colour_table_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0


def _png_delays(data: bytes) -> Iterator[float]:
    for kind, offset, _ in png_chunks(data):
        if kind == b"fcTL":
            ticks, rate = (int.from_bytes(data[offset + n : offset + n + 2]) for n in (20, 22))
            yield ticks / (rate or 100)


def _webp_delays(data: bytes) -> Iterator[float]:
    for kind, offset, _ in riff_chunks(data):
        if kind == b"ANMF":
            yield int.from_bytes(data[offset + 12 : offset + 15], "little") / 1000
