"""Metadata of photographs: the orientation is read, and all else is taken away before a decoder
sees the file, so that nothing that a camera or a program wrote there can reject a picture."""

from __future__ import annotations

from typing import Literal

from pipeline.pictures import PNG_SIGNATURE, Format, png_chunks, riff_chunks

_ORIENTATION = 0x0112

# What the pixels of a TIFF are made from; everything else is said about them.
_TIFF_PIXEL_TAGS = {
    *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323),
    # Tiles, further samples, colour spaces and the old kind of JPEG.
    *(324, 325, 338, 339, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532),
}
_PNG_PIXEL_CHUNKS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")

# Its colours depend on JFIF and on Adobe's segment, and on nothing else that is said about it.
_JPEG_PIXEL_SEGMENTS = {0xE0, 0xEE}
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_SOS = 0xDA

_Order = Literal["little", "big"]


def orientation(data: bytes, format: Format) -> int:
    """How a picture has to be turned to be upright, as tag 0x0112 of EXIF says: 1 to 8.

    What can't be read or is none of these is 1, as it is. An AVIF and a HEIF are turned by their
    decoders, as their formats ask, whatever EXIF says.
    """
    if format == "TIFF":
        return _tiff_orientation(data)
    if format == "JPEG":
        exif = next((part for part in _jpeg_parts(data) if part[4:10] == b"Exif\0\0"), b"")
        return _tiff_orientation(exif[10:])
    if format == "PNG":
        exif = next(
            (data[at : end - 4] for kind, at, end in png_chunks(data) if kind == b"eXIf"), b""
        )
    elif format == "WEBP":
        exif = next((data[at:end] for kind, at, end in riff_chunks(data) if kind == b"EXIF"), b"")
    else:
        return 1
    return _tiff_orientation(exif.removeprefix(b"Exif\0\0"))


def pixels_only(data: bytes, format: Format) -> bytes:
    """The same file without what is not needed to decode its pixels."""
    if format == "JPEG":
        parts = _jpeg_parts(data)
        rest = data[2 + sum(map(len, parts)) :]
        kept = [part for part in parts if not _is_jpeg_metadata(part)]
        return b"".join((data[:2], *kept, rest))
    if format == "PNG":
        return b"".join((PNG_SIGNATURE, *_png_pixel_chunks(data)))
    if format == "TIFF":
        return _tiff_pixels_only(data)
    if format in ("AVIF", "HEIF"):
        return _without_exif_item(data)
    # The decoders of the others do not read what is said about their pixels.
    return data


def _jpeg_parts(data: bytes) -> list[bytes]:
    """The segments of a JPEG before its first scan, each with its marker."""
    parts: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SOS:
        marker = data[at + 1]
        if marker == 0xFF:
            end = at + 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            end = at + 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if end > len(data):
            break
        parts.append(data[at:end])
        at = end
    return parts


def _is_jpeg_metadata(part: bytes) -> bool:
    marker = part[1] if len(part) > 1 else 0
    is_application_or_comment = 0xE0 <= marker <= 0xEF or marker == 0xFE
    return is_application_or_comment and marker not in _JPEG_PIXEL_SEGMENTS


def _png_pixel_chunks(data: bytes) -> list[bytes]:
    kept = []
    at = len(PNG_SIGNATURE)
    for kind, _, end in png_chunks(data):
        # A capital letter first: no picture without it.
        if not kind[0] & 0x20 or kind in _PNG_PIXEL_CHUNKS:
            kept.append(data[at:end])
        at = end
    return kept


def _without_exif_item(data: bytes) -> bytes:
    """An ISO base media file in which the item with EXIF is of no known kind."""
    changed = bytearray(data)
    at = data.find(b"infe")
    while 0 <= at < len(data):
        # Version, flags, number and protection come before the kind; the number may be longer.
        for kind in (at + 12, at + 14):
            if data[kind : kind + 4] == b"Exif":
                changed[kind : kind + 4] = b"free"
        at = data.find(b"infe", at + 4)
    return bytes(changed)


def _tiff_layout(data: bytes) -> tuple[_Order, int, int, int] | None:
    """A TIFF's byte order, where its first table is, and the bytes of its count and of a row."""
    orders: dict[bytes, _Order] = {b"II": "little", b"MM": "big"}
    if data[:2] not in orders:
        return None
    order = orders[data[:2]]
    version = int.from_bytes(data[2:4], order)
    if version == 42:
        return order, int.from_bytes(data[4:8], order), 2, 12
    if version == 43:
        return order, int.from_bytes(data[8:16], order), 8, 20
    return None


def _tiff_rows(data: bytes) -> tuple[_Order, int, int, list[bytes]]:
    """The rows of a TIFF's first table: byte order, where it is, bytes of its count, rows."""
    layout = _tiff_layout(data)
    if layout is None:
        return "little", 0, 0, []
    order, table, count_bytes, row_bytes = layout
    first = table + count_bytes
    count = min(int.from_bytes(data[table:first], order), 65_536)
    rows = [data[at : at + row_bytes] for at in range(first, first + count * row_bytes, row_bytes)]
    return order, table, count_bytes, [row for row in rows if len(row) == row_bytes]


def _tiff_orientation(data: bytes) -> int:
    order, _, _, rows = _tiff_rows(data)
    for row in rows:
        if int.from_bytes(row[:2], order) == _ORIENTATION:
            # One number, whatever its type: of one byte, two, or four.
            size = {1: 1, 3: 2, 4: 4}.get(int.from_bytes(row[2:4], order), 0)
            at = len(row) - (4 if len(row) == 12 else 8)
            value = int.from_bytes(row[at : at + size], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _tiff_pixels_only(data: bytes) -> bytes:
    order, table, count_bytes, rows = _tiff_rows(data)
    if not rows:
        return data
    kept = [row for row in rows if int.from_bytes(row[:2], order) in _TIFF_PIXEL_TAGS]
    count = len(kept).to_bytes(count_bytes, order)
    # Only the first page is looked at: no other follows.
    shorter = b"".join((count, *kept, bytes(8)))
    length = count_bytes + sum(map(len, rows))
    return data[:table] + shorter[:length].ljust(length, b"\0") + data[table + length :]
