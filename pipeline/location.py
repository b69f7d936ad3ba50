"""Where a corpus or a store is: a folder of this machine, or any URL that fsspec knows.

Both are a `UPath`: pathlib's interface. This module holds what the two do differently: how a file
is written whole or not at all, and how a remote file gets to a local disk.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeGuard

from fsspec import register_implementation
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential
from upath import UPath

from pipeline.errors import UserError
from pipeline.faults import UnavailableError, is_remote_failure

# What a function takes that leaves it to `location` which it is.
AnyPath = UPath | Path

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LOCAL_URL = re.compile(r"(file|local)://", re.IGNORECASE)

# Errors that another try does not mend, or that were tried again until their deadline.
_FOR_GOOD = (
    *(FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, UnavailableError),
)

for _protocol in ("s3", "s3a"):
    # By name: s3fs is imported when it is used.
    register_implementation(
        _protocol,
        "pipeline.object_store.PatientS3",
        clobber=True,
        errtxt="needs s3fs (pip install 'intertitle[s3]')",
    )


def location(where: str | AnyPath) -> UPath:
    """A folder or file by its path or URL.

    Raises:
        UserError: it is empty, or no installed package knows URLs of this kind.
    """
    if not str(where):
        raise UserError("an empty path, allowed: a folder or an URL")
    if local := _LOCAL_URL.match(str(where)):
        where = str(where)[local.end() :]
    try:
        # Listings are not remembered: other machines write there too.
        path = UPath(where, use_listings_cache=False) if is_url(str(where)) else UPath(where)
        if not is_local(path):
            _ = path.fs
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {error} (s3: pip install 'intertitle[s3]')") from error
    return path


def is_url(text: str) -> bool:
    """Whether a text is an URL rather than a path."""
    return _URL.match(text) is not None


def is_local(path: UPath) -> TypeGuard[Path]:
    """Whether a path is of this machine's file system."""
    return isinstance(path, Path)


def cache_folder() -> Path:
    """Where this user's machine keeps what can be made or fetched again."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "intertitle"


def _transient(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    failed = isinstance(error, OSError) or is_remote_failure(error)
    return failed and not full and not isinstance(error, _FOR_GOOD)


again = retry(
    retry=retry_if_exception(_transient),
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(0.2, max=5),
    reraise=True,
)
"""Tries four times what fails with an error of input or output that may pass.

An object store of S3 retries by itself, see `pipeline.object_store`.
"""


@again
def write_whole(target: UPath, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader sees all of it or none, and a power cut does not lose it.

    Raises:
        OSError: it could not be written, or fewer bytes arrived than were sent; tried four times.
    """
    target.fs.makedirs(target.parent.path, exist_ok=True)
    if is_local(target):
        unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}.writing")
        try:
            with unfinished.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_folder(target.parent)
        return
    # An object store shows a file when it is whole, but fsspec would also close, and so show, one
    # whose writer failed half-way: so it is made here first.
    with tempfile.TemporaryFile() as file:
        write(file)
        file.seek(0)
        _upload(file, target)


def _upload(file: BinaryIO, target: UPath) -> None:
    size = os.fstat(file.fileno()).st_size
    target.fs.put_file(f"/proc/self/fd/{file.fileno()}", target.path)
    arrived = target.fs.info(target.path)["size"]
    if arrived != size:
        raise OSError(5, f"{arrived} of {size} bytes arrived", str(target))


@again
def put_file(file: Path, target: UPath) -> None:
    """Upload a finished file under its final name.

    Raises:
        OSError: it could not be written; tried four times.
    """
    with file.open("rb") as source:
        _upload(source, target)


def rename(path: UPath, target: UPath) -> None:
    """Give a file another name in its folder."""
    if is_local(path) and is_local(target):
        path.replace(target)
        sync_folder(target.parent)
    else:
        path.fs.mv(path.path, target.path)


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def downloaded(path: UPath) -> Iterator[Path]:
    """A file on a local disk for the length of a block: itself, or a copy of it."""
    if is_local(path):
        yield path
        return
    # It has no name: nothing is left of it, however the process ends.
    with tempfile.TemporaryFile() as file:
        copy = Path(f"/proc/self/fd/{file.fileno()}")
        path.fs.get_file(path.path, str(copy))
        yield copy


@again
def cached(path: UPath, sha256: str) -> Path:
    """A file on a local disk: itself, or a copy that stays in the cache under its content's hash.

    Raises:
        OSError: it could not be read; tried four times.
    """
    if is_local(path):
        return path
    copy = cache_folder() / "shards" / f"{sha256}{path.suffix}"
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        unfinished = copy.with_name(f".{copy.name}.{uuid.uuid4().hex}.writing")
        try:
            path.fs.get_file(path.path, str(unfinished))
            unfinished.replace(copy)
        finally:
            unfinished.unlink(missing_ok=True)
    return copy
