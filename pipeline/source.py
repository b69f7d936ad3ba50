"""An item's file: where it is, whether it may be opened, and which bytes it holds."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from upath import UPath

from pipeline.corpus import Item, locate
from pipeline.decode import DecodeError
from pipeline.faults import is_machine_fault
from pipeline.hosts import allowed_hosts, host_of, is_allowed
from pipeline.location import AnyPath, downloaded, is_local, is_url


@dataclass(frozen=True, slots=True)
class Source:
    """An item and the corpus it is of.

    Attributes:
        item: what is to be decoded.
        corpus: path or URL of the corpus, which a relative uri starts from.
        copy: the state of the file, where `item` names a copy that was fetched; None otherwise.
        hosts: to which URLs may lead beside the corpus' own; by default those that the environment
            allows where this is made, and so wherever it travels.
    """

    item: Item
    corpus: str
    copy: FileState | None = None
    hosts: tuple[str, ...] = field(default_factory=allowed_hosts)

    @property
    def path(self) -> UPath:
        """Where the file is.

        Raises:
            DecodeError: its URL leads to a host that is not on the list. Even to make a path of
                some would open a connection.
        """
        check_host(self.item, self.corpus, self.hosts)
        return locate(self.corpus, self.item)


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one content of a file from another.

    Attributes:
        sha256: of its bytes; None for what could not be read.
        size_bytes: its length.
        mtime_ns: when it was last changed, in nanoseconds; only a hint that saves hashing.
    """

    sha256: str | None
    size_bytes: int
    mtime_ns: int


def stamp(source: Source) -> tuple[int, int] | None:
    """A file's size in bytes and time of change in nanoseconds, or None if there is none.

    Raises:
        DecodeError: it can't be told, through a fault of the machine or the network: class
            "unavailable".
    """
    try:
        info = source.path.stat()
    except DecodeError:
        # Its host is not on the list.
        return None
    except Exception as error:
        fault = _fault(source.path, error)
        if fault.error == "unavailable":
            raise fault from error
        return None
    return info.st_size, _mtime_ns(info)


def is_there(source: Source) -> bool:
    """Whether this machine sees an item's file."""
    try:
        return stamp(source) is not None
    except DecodeError:
        return False


@contextmanager
def opened(source: Source) -> Iterator[tuple[Path, FileState]]:
    """An item's file on a local disk, with its state, for the length of a block.

    Raises:
        DecodeError: it is missing, empty, no regular file (those are never opened), leads out of
            its folder, or can't be read. Class "unavailable" is the machine's or the network's
            fault.
        CredentialsError: the object store refuses every object.
    """
    path = source.path
    if source.copy is not None:
        yield Path(str(path)), source.copy
        return
    if not is_url(source.item.uri) and ".." in PurePosixPath(source.item.uri).parts:
        raise DecodeError("refused", f"{path}: leads out of the corpus")
    if is_local(path):
        _check_stays_inside(path, source)
        yield path, file_state(path)
        return
    try:
        info = path.stat()
        if info.st_size == 0:
            raise DecodeError("empty", f"{path}: has no bytes")
        with downloaded(path) as copy:
            yield copy, FileState(_sha256(copy), copy.stat().st_size, _mtime_ns(info))
    except FileNotFoundError as error:
        raise DecodeError("missing", f"{path}: no such object") from error
    except Exception as error:
        # What an object store answers besides is about itself, whatever number it bears.
        if isinstance(error, OSError) or is_machine_fault(error):
            raise DecodeError("unavailable", f"{path}: {error}") from error
        raise


def check_host(item: Item, corpus: str, hosts: Sequence[str]) -> None:
    """Make sure that an item's URL leads to where its corpus is, or to a host on a list.

    Raises:
        DecodeError: it does not.
    """
    uri = item.uri
    if not is_url(uri) or is_allowed(uri, corpus, hosts):
        return
    raise DecodeError(
        "refused",
        f"{host_of(uri)}: not on the list of hosts, allowed: the corpus' own, or --allow-host",
    )


def state_of(source: Source) -> FileState | None:
    """The state of an item's file, or None if it can't be read for a reason of its own.

    Raises:
        DecodeError: the machine or the network is at fault: class "unavailable".
    """
    try:
        with opened(source) as (_, state):
            return state
    except DecodeError as error:
        if error.error == "unavailable":
            raise
        return None


def unread_state(source: Source) -> FileState | None:
    """What is known of a file without reading it, or None if nothing is."""
    try:
        size_and_time = stamp(source)
    except DecodeError:
        return None
    return FileState(None, *size_and_time) if size_and_time else None


def file_state(path: Path) -> FileState:
    """Hash a regular file of this machine.

    Raises:
        DecodeError: it is missing, empty, no regular file (those are never opened), or
            unavailable: the machine can't read it just now.
    """
    try:
        info = path.stat()
    except (OSError, ValueError) as error:
        raise _fault(path, error) from error
    if not stat.S_ISREG(info.st_mode):
        raise DecodeError("refused", f"{path}: not a regular file")
    if info.st_size == 0:
        raise DecodeError("empty", f"{path}: has no bytes")
    try:
        return FileState(_sha256(path), info.st_size, info.st_mtime_ns)
    except OSError as error:
        raise _fault(path, error) from error


def _fault(path: AnyPath, error: Exception) -> DecodeError:
    """What a file system's error says of a file: there is none, or it can't be read just now."""
    reason = getattr(error, "strerror", None) or str(error)
    kind = "unavailable" if is_machine_fault(error) else "missing"
    return DecodeError(kind, f"{path}: {reason}")


def _check_stays_inside(path: Path, source: Source) -> None:
    """A relative uri stays in the corpus; a link that an absolute one names, in its own folder."""
    relative = not (is_url(source.item.uri) or Path(source.item.uri).is_absolute())
    home = Path(source.corpus) if relative else path.parent
    try:
        real = path.resolve(strict=True)
        inside = real.is_relative_to(home.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        # Of these two: an embedded null byte, a loop of links.
        raise _fault(path, error) from error
    if not inside:
        raise DecodeError("refused", f"{path}: leads to {real}, allowed: below {home}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mtime_ns(info: object) -> int:
    exact = getattr(info, "st_mtime_ns", None)
    # An object store answers in seconds or in milliseconds, depending on how it is asked.
    return int(exact) if exact is not None else int(getattr(info, "st_mtime", 0)) * 10**9
