"""Copies of items' files that a decoder can't open by their path: members of tars, remote files."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from upath import UPath

from intertitle.pipeline.corpus import Member
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.storage.faults import is_machine_fault
from intertitle.pipeline.storage.paths import AnyPath
from intertitle.pipeline.storage.web import RefusedError, TooLargeError, WebClient

_CHUNK_BYTES = 1 << 20


def regular_file(path: Path) -> os.stat_result:
    """Return the status of a regular file of this machine.

    Raises:
        DecodeError: the file is missing, empty, not a regular file, or unavailable, because the
            machine cannot read it now.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:
        raise fault_of(path, error) from error
    if not stat.S_ISREG(info.st_mode):
        raise DecodeError("refused", f"{path}: not a regular file")
    if info.st_size == 0:
        raise DecodeError("empty", f"{path}: has no bytes")
    return info


def copy_member(path: Path, member: Member, target: BinaryIO) -> int:
    """Copy a range of a file's bytes.

    Returns:
        The time of the file's last change in nanoseconds.

    Raises:
        DecodeError: the file is not a regular file, can't be read, or ends before the range does.
    """
    info = regular_file(path)
    try:
        with path.open("rb") as file:
            file.seek(member.offset)
            num_left = member.size_bytes
            while num_left and (chunk := file.read(min(num_left, _CHUNK_BYTES))):
                target.write(chunk)
                num_left -= len(chunk)
        target.flush()
    except OSError as error:
        raise fault_of(path, error) from error
    _check_complete(target, member, path)
    return info.st_mtime_ns


def copy_web(client: WebClient, url: str, member: Member | None, target: BinaryIO) -> int:
    """Download a file, or a range of its bytes, by http or https.

    Returns:
        The time of the file's last change in nanoseconds, 0 if unknown.

    Raises:
        DecodeError: the file is gone or too large, the server refuses or opts out, or it did not
            answer: class "unavailable".
    """
    start, end = (member.offset, member.offset + member.size_bytes) if member else (0, None)
    try:
        changed_ns = client.fetch(url, target, start, end)
    except FileNotFoundError as error:
        raise DecodeError("missing", f"{url}: {error.strerror}") from error
    except RefusedError as error:
        raise DecodeError("refused", str(error)) from error
    except TooLargeError as error:
        raise DecodeError("too_large", str(error)) from error
    except OSError as error:
        raise DecodeError("unavailable", str(error.strerror or error)) from error
    if member:
        _check_complete(target, member, url)
    elif target.tell() == 0:
        raise DecodeError("empty", f"{url}: has no bytes")
    return changed_ns


def copy_object(path: UPath, member: Member | None, target: BinaryIO, max_bytes: int) -> int:
    """Download a file, or a range of its bytes, from an object store.

    Returns:
        The time of the file's last change in nanoseconds.

    Raises:
        DecodeError: the file is missing, empty or too large, or the store failed: class
            "unavailable".
    """
    try:
        info = path.stat()
        size_bytes = member.size_bytes if member else info.st_size
        if info.st_size == 0:
            raise DecodeError("empty", f"{path}: has no bytes")
        if size_bytes > max_bytes:
            raise DecodeError("too_large", f"{path}: {size_bytes:,} bytes, allowed: {max_bytes:,}")
        if member:
            end = member.offset + member.size_bytes
            target.write(path.fs.cat_file(path.path, start=member.offset, end=end))
            target.flush()
        else:
            path.fs.get_file(path.path, f"/proc/self/fd/{target.fileno()}")
    except FileNotFoundError as error:
        raise DecodeError("missing", f"{path}: no such object") from error
    except Exception as error:
        # All other errors of an object store are faults of the store, whatever their number.
        if isinstance(error, OSError) or is_machine_fault(error):
            raise DecodeError("unavailable", f"{path}: {error}") from error
        raise
    if member:
        _check_complete(target, member, path)
    return mtime_ns(info)


def fault_of(path: AnyPath, error: Exception) -> DecodeError:
    """Convert an error of the file system: the file is missing, or cannot be read now."""
    reason = getattr(error, "strerror", None) or str(error)
    kind = "unavailable" if is_machine_fault(error) else "missing"
    return DecodeError(kind, f"{path}: {reason}")


def mtime_ns(info: object) -> int:
    """Return the modification time of a file's status in nanoseconds."""
    exact = getattr(info, "st_mtime_ns", None)
    # An object store reports the time in seconds or in milliseconds, depending on the request.
    return int(exact) if exact is not None else int(getattr(info, "st_mtime", 0)) * 10**9


def _check_complete(target: BinaryIO, member: Member, where: object) -> None:
    num_bytes = os.fstat(target.fileno()).st_size
    if num_bytes != member.size_bytes:
        last = member.offset + member.size_bytes
        raise DecodeError("unreadable", f"{where}: ends before byte {last:,}, where the item ends")
    if num_bytes == 0:
        raise DecodeError("empty", f"{where}: has no bytes")
