"""An item's file: where it is and which bytes it holds."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from pipeline.decode import DecodeError


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one content of a file from another.

    Attributes:
        sha256: of its bytes.
        size_bytes: its length.
        mtime_ns: when it was last changed, in nanoseconds; only a hint that saves hashing.
    """

    sha256: str
    size_bytes: int
    mtime_ns: int


def file_state(path: Path) -> FileState:
    """Hash a regular file.

    Raises:
        DecodeError: it is missing, empty, or no regular file (those are never opened).
    """
    try:
        info = path.stat()
    except OSError as error:
        raise DecodeError("missing", f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(info.st_mode):
        raise DecodeError("refused", f"{path}: not a regular file")
    if info.st_size == 0:
        raise DecodeError("empty", f"{path}: has no bytes")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DecodeError("unreadable", f"{path}: {error.strerror}") from error
    return FileState(digest, info.st_size, info.st_mtime_ns)
