"""Paths of corpora and stores: a folder of this machine, or any URL that fsspec supports.

Both are a `UPath`, which has the interface of pathlib. This module contains the operations that
differ between them: atomic writes, and the download of a remote file to a local disk.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeGuard

from fsspec import register_implementation
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.faults import UnavailableError, is_remote_failure

# Type of the arguments that may be either kind of path; `as_path` converts them.
AnyPath = UPath | Path

# Suffix of the hidden name that a file or folder has until it is complete.
_UNFINISHED = ".writing"

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
LOCAL_URL = re.compile(r"(file|local)://", re.IGNORECASE)

# Errors that a retry cannot fix, or that were already retried until their deadline.
_FOR_GOOD = (
    *(FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, UnavailableError),
)

for _protocol in ("s3", "s3a"):
    # Registered by name, so that s3fs is only imported when it is used.
    register_implementation(
        _protocol,
        "intertitle.pipeline.storage.object_store.PatientS3",
        clobber=True,
        errtxt="needs s3fs (pip install 'intertitle[s3]')",
    )


def as_path(where: str | AnyPath) -> UPath:
    """Return the `UPath` of a folder or file that is given by its path or URL.

    Raises:
        UserError: the path is empty, or no installed package supports URLs of this kind.
    """
    if not str(where):
        raise UserError("an empty path, allowed: a folder or an URL")
    if local := LOCAL_URL.match(str(where)):
        where = str(where)[local.end() :]
    if str(where).startswith("~"):
        where = str(_with_home(Path(str(where))))
    try:
        # Listings are not cached, because other machines write there too.
        path = UPath(where, use_listings_cache=False) if is_url(str(where)) else UPath(where)
        if not is_local(path):
            _ = path.fs
    except (ImportError, ValueError, TypeError) as error:
        raise UserError(f"{where}: {error} (s3: pip install 'intertitle[s3]')") from error
    return path


def normalized(path: Path) -> Path:
    """Return the absolute path of a path that a user typed, without `.`, `..` and `~`.

    Symbolic links are kept unless removing `..` would then name another file.
    """
    path = _with_home(path)
    # pathlib has no function that removes `..` and keeps links.
    lexical = Path(os.path.abspath(path))  # noqa: PTH100
    try:
        # The parent of a folder that is reached by a link is the parent of the link's target.
        is_same_file = ".." not in path.parts or lexical.samefile(path)
    except OSError:
        is_same_file = not path.exists()
    return lexical if is_same_file else path.resolve()


def _with_home(path: Path) -> Path:
    """Replace a leading `~`, which a shell does not always expand, by the home folder."""
    is_in_home = path.parts[:1] == ("~",) and not os.path.lexists(path)
    return path.expanduser() if is_in_home else path


def is_url(text: str) -> bool:
    """Return whether a text is a URL rather than a path."""
    return _URL.match(text) is not None


def is_local(path: AnyPath) -> TypeGuard[Path]:
    """Return whether a path is in this machine's file system."""
    return isinstance(path, Path)


def cache_folder() -> Path:
    """Return the user's cache folder, whose files can be recreated or downloaded again."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "intertitle"


def _transient(error: BaseException) -> bool:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    failed = isinstance(error, OSError) or is_remote_failure(error)
    return failed and not full and not isinstance(error, _FOR_GOOD)


retry_io = retry(
    retry=retry_if_exception(_transient),
    stop=stop_after_attempt(4),
    wait=wait_random_exponential(0.2, max=5),
    reraise=True,
)
"""Tries four times what fails with an error of input or output that may pass.

An object store of S3 retries by itself, see `storage.object_store`.
"""


@retry_io
def atomic_write(target: UPath, write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically and durably: readers see all of it or none, even after a power cut.

    Args:
        target: path or URL of the file.
        write: function that writes the content to a binary file; a retry calls it again.

    Raises:
        OSError: the file could not be written in four tries, or fewer bytes arrived than were sent.
    """
    target.fs.makedirs(target.parent.path, exist_ok=True)
    if is_local(target):
        unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}{_UNFINISHED}")
        try:
            with unfinished.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_path(target.parent)
        return
    # An object store publishes a file when it is closed, and fsspec also closes a file whose writer
    # failed midway. The content is therefore written to a local file first.
    with tempfile.TemporaryFile() as file:
        write(file)
        file.seek(0)
        _upload(file, target)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Provide an empty folder in a `with` block; after the block, sync it and give it its name.

    Readers see all of the folder or none, even after a power cut. If the block raises an error, no
    folder remains. Only one process at a time may write a folder.

    Args:
        folder: path of a new folder of this machine.
    """
    unfinished = folder.with_name(f".{folder.name}{_UNFINISHED}")
    # It exists if a process was killed while it wrote.
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        for path in (*unfinished.rglob("*"), unfinished):
            sync_path(path)
        unfinished.replace(folder)
    finally:
        # On a full disk, an incomplete folder would take up the space of a complete one.
        shutil.rmtree(unfinished, ignore_errors=True)
    sync_path(folder.parent)


def is_unfinished(name: str) -> bool:
    """Return whether a file or folder of this name is incomplete, as a killed process leaves it."""
    return name.startswith(".") and name.endswith(_UNFINISHED)


def _upload(file: BinaryIO, target: UPath) -> None:
    size = os.fstat(file.fileno()).st_size
    target.fs.put_file(f"/proc/self/fd/{file.fileno()}", target.path)
    arrived = target.fs.info(target.path)["size"]
    if arrived != size:
        raise OSError(5, f"{arrived} of {size} bytes arrived", str(target))


@retry_io
def put_file(file: Path, target: UPath) -> None:
    """Upload a finished file under its final name.

    Raises:
        OSError: the file could not be written in four tries.
    """
    with file.open("rb") as source:
        _upload(source, target)


def rename(path: UPath, target: UPath) -> None:
    """Rename a file within its folder."""
    if is_local(path) and is_local(target):
        path.replace(target)
        sync_path(target.parent)
    else:
        path.fs.mv(path.path, target.path)


def sync_path(path: Path) -> None:
    """Flush a file or folder to disk; a rename in a folder then survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def downloaded(path: UPath) -> Iterator[Path]:
    """Provide a file on a local disk in a `with` block: the file itself, or a temporary copy."""
    if is_local(path):
        yield path
        return
    # The temporary file has no name, so nothing is left of it even if the process is killed.
    with tempfile.TemporaryFile() as file:
        copy = Path(f"/proc/self/fd/{file.fileno()}")
        path.fs.get_file(path.path, str(copy))
        yield copy


def cached(path: UPath, sha256: str) -> Path:
    """Return a file on a local disk: the file itself, or a copy in the cache named by its hash.

    Args:
        path: path or URL of the file.
        sha256: SHA-256 hash of the file's content.

    Raises:
        OSError: the file could not be read in four tries.
    """
    if is_local(path):
        return path
    copy = cache_folder() / "shards" / f"{sha256}{path.suffix}"
    if not copy.exists():
        atomic_write(
            as_path(copy),
            lambda file: path.fs.get_file(path.path, f"/proc/self/fd/{file.fileno()}"),
        )
    return copy
