"""Detection of a file's container format from its first bytes."""

from __future__ import annotations

from typing import BinaryIO

# Signatures of self-contained formats, which refer to no other file: (demuxer, offset, bytes).
_MAGIC = (
    *(("mov", 4, kind) for kind in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")),
    ("avi", 8, b"AVI "),
    ("matroska", 0, b"\x1a\x45\xdf\xa3"),
    ("asf", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("flv", 0, b"FLV\x01"),
    ("ogg", 0, b"OggS"),
    ("ivf", 0, b"DKIF"),
    ("mxf", 0, b"\x06\x0e\x2b\x34"),
    ("mpeg", 0, b"\x00\x00\x01\xba"),
    ("mpegvideo", 0, b"\x00\x00\x01\xb3"),
)
_LISTS = (b"ffconcat", b"#EXTM3U", b"v=0", b"<?xml", b"<MPD", b"[playlist]", b"http:", b"https:")


class ProbeError(Exception):
    """Error of a file that cannot be read as a video or an image.

    Attributes:
        error: class of the failure, as in `DecodeError`.
        message: description in one line.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(error, message)
        self.error = error
        self.message = message


def container_format(head: bytes) -> str:
    """Return the name of the demuxer for a file.

    Args:
        head: first bytes of the file; 400 are enough.

    Raises:
        ProbeError: the file has no known self-contained format.
    """
    for name, offset, magic in _MAGIC:
        if head.startswith(magic, offset):
            return name
    for packet, sync in ((188, 0), (192, 4)):
        if len(head) > sync + packet and head[sync] == head[sync + packet] == 0x47:
            return "mpegts"
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(_LISTS):
        raise ProbeError("refused", "a playlist, which would open other files")
    raise ProbeError("unreadable", "no video format that is known here")


def is_cut_matroska(file: BinaryIO) -> bool:
    """Return whether a Matroska file is truncated: its segment claims more bytes than there are."""
    file.seek(0)
    head = file.read(4096)
    offset = head.find(b"\x18\x53\x80\x67") + 4
    if offset < 4 or offset >= len(head) or not head[offset]:
        return False
    # The number of leading zero bits encodes the length of the number; all ones means "unknown".
    length = 9 - head[offset].bit_length()
    size = int.from_bytes(head[offset : offset + length], "big") & ((1 << 7 * length) - 1)
    return size != (1 << 7 * length) - 1 and offset + length + size > file.seek(0, 2)
