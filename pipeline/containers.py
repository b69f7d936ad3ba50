"""Which container a file is, from its first bytes alone."""

from __future__ import annotations

from typing import BinaryIO

# The first bytes of formats that hold everything themselves: (demuxer, offset, bytes).
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
    """A file that can't be read as a video: a class of failure, as in `DecodeError`, and a line."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(error, message)
        self.error = error
        self.message = message


def container_format(head: bytes) -> str:
    """The demuxer for a file that begins with these bytes; some 400 are enough.

    Raises:
        ProbeError: it is none of those that hold everything themselves.
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
    """Whether the segment, which holds everything, claims more bytes than the file has."""
    file.seek(0)
    head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4 or at >= len(head) or not head[at]:
        return False
    # A number's leading zero bits tell how many bytes follow; all ones is "unknown".
    length = 9 - head[at].bit_length()
    size = int.from_bytes(head[at : at + length], "big") & ((1 << 7 * length) - 1)
    return size != (1 << 7 * length) - 1 and at + length + size > file.seek(0, 2)
