"""Metadata of images: reading of the orientation, and removal of everything else.

Metadata is removed before a decoder reads the file, so that invalid metadata of a camera or a
program cannot make decoding fail.
"""

from __future__ import annotations

from typing import Literal

from intertitle.pipeline.decoding.images.formats import (
    PNG_SIGNATURE,
    Format,
    png_chunks,
    riff_chunks,
)

_ORIENTATION = 0x0112

# Tags that are needed to decode the pixels of a TIFF; all others are metadata.
_TIFF_PIXEL_TAGS = {
    *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323),
    # Tiles, extra samples, colour spaces and old-style JPEG compression.
    *(324, 325, 338, 339, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532),
}
_PNG_PIXEL_CHUNKS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")

# Application segments that the colours of a JPEG depend on: JFIF and Adobe.
_JPEG_PIXEL_SEGMENTS = {0xE0, 0xEE}
_JPEG_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_SOS = 0xDA

_Order = Literal["little", "big"]


def orientation(data: bytes, format: Format) -> int:
    """Return the orientation of a picture, the value 1 to 8 of EXIF tag 0x0112.

    An orientation that cannot be read or is out of range is 1, upright. AVIF and HEIF pictures are
    turned by their decoders according to their formats, so their EXIF orientation is ignored.
    """
    if format == "TIFF":
        return _tiff_orientation(data)
    if format == "JPEG":
        exif = next((part for part in _jpeg_parts(data) if part[4:10] == b"Exif\0\0"), b"")
        return _tiff_orientation(exif[10:])
    if format == "PNG":
        exif = next(
            (data[offset : end - 4] for kind, offset, end in png_chunks(data) if kind == b"eXIf"),
            b"",
        )
    elif format == "WEBP":
        exif = next(
            (data[offset:end] for kind, offset, end in riff_chunks(data) if kind == b"EXIF"), b""
        )
    else:
        return 1
    return _tiff_orientation(exif.removeprefix(b"Exif\0\0"))


def pixels_only(data: bytes, format: Format) -> bytes:
    """Return the file without the parts that are not needed to decode its pixels."""
    if format == "JPEG":
        parts = _jpeg_parts(data)
        rest = data[2 + sum(map(len, parts)) :]
        segments = [part for part in parts if not _is_jpeg_metadata(part)]
        return b"".join((data[:2], *segments, rest))
    if format == "PNG":
        return b"".join((PNG_SIGNATURE, *_png_pixel_chunks(data)))
    if format == "TIFF":
        return _tiff_pixels_only(data)
    if format in ("AVIF", "HEIF"):
        return _without_exif_item(data)
    # The decoders of the other formats do not read metadata.
    return data


def _jpeg_parts(data: bytes) -> list[bytes]:
    """Return the segments of a JPEG before its first scan, each with its marker."""
    parts: list[bytes] = []
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] != _SOS:
        marker = data[offset + 1]
        if marker == 0xFF:
            end = offset + 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            end = offset + 2
        else:
            end = offset + 2 + int.from_bytes(data[offset + 2 : offset + 4])
        if end > len(data):
            break
        parts.append(data[offset:end])
        offset = end
    return parts


def _is_jpeg_metadata(part: bytes) -> bool:
    marker = part[1] if len(part) > 1 else 0
    is_application_or_comment = 0xE0 <= marker <= 0xEF or marker == 0xFE
    return is_application_or_comment and marker not in _JPEG_PIXEL_SEGMENTS


def _png_pixel_chunks(data: bytes) -> list[bytes]:
    chunks = []
    offset = len(PNG_SIGNATURE)
    for kind, _, end in png_chunks(data):
        # A chunk whose type starts with a capital letter is critical for decoding.
        if not kind[0] & 0x20 or kind in _PNG_PIXEL_CHUNKS:
            chunks.append(data[offset:end])
        offset = end
    return chunks


def _without_exif_item(data: bytes) -> bytes:
    """Return an ISO base media file in which decoders ignore the EXIF item."""
    new_data = bytearray(data)
    offset = data.find(b"infe")
    while 0 <= offset < len(data):
        # Version, flags, item id and protection precede the type; the item id has 2 or 4 bytes.
        for kind in (offset + 12, offset + 14):
            if data[kind : kind + 4] == b"Exif":
                new_data[kind : kind + 4] = b"free"
        offset = data.find(b"infe", offset + 4)
    return bytes(new_data)


def _tiff_layout(data: bytes) -> tuple[_Order, int, int, int] | None:
    """Return a TIFF's byte order, its first table's offset, and the bytes of a count and a row."""
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
    """Return a TIFF's byte order, and its first table's offset, bytes of the count, and rows."""
    layout = _tiff_layout(data)
    if layout is None:
        return "little", 0, 0, []
    order, table, count_bytes, row_bytes = layout
    first = table + count_bytes
    count = min(int.from_bytes(data[table:first], order), 65_536)
    rows = [
        data[offset : offset + row_bytes]
        for offset in range(first, first + count * row_bytes, row_bytes)
    ]
    return order, table, count_bytes, [row for row in rows if len(row) == row_bytes]


def _tiff_orientation(data: bytes) -> int:
    order, _, _, rows = _tiff_rows(data)
    for row in rows:
        if int.from_bytes(row[:2], order) == _ORIENTATION:
            # A single number of one, two or four bytes, depending on its type.
            size = {1: 1, 3: 2, 4: 4}.get(int.from_bytes(row[2:4], order), 0)
            offset = len(row) - (4 if len(row) == 12 else 8)
            value = int.from_bytes(row[offset : offset + size], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _tiff_pixels_only(data: bytes) -> bytes:
    order, table, count_bytes, rows = _tiff_rows(data)
    if not rows:
        return data
    pixel_rows = [row for row in rows if int.from_bytes(row[:2], order) in _TIFF_PIXEL_TAGS]
    count = len(pixel_rows).to_bytes(count_bytes, order)
    # Only the first page is decoded, so the offset of the next page is zero.
    new_table = b"".join((count, *pixel_rows, bytes(8)))
    length = count_bytes + sum(map(len, rows))
    return data[:table] + new_table[:length].ljust(length, b"\0") + data[table + length :]
