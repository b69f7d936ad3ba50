"""Location, access check and content hash of an item's file."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from upath import UPath

from intertitle.pipeline.corpus import Item, locate
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.storage.allowed_hosts import allowed_hosts, host_of, is_allowed
from intertitle.pipeline.storage.faults import is_machine_fault
from intertitle.pipeline.storage.paths import AnyPath, as_path, downloaded, is_local, is_url


@dataclass(frozen=True, slots=True)
class ItemFile:
    """An item and the corpus that it belongs to.

    Attributes:
        item: item to decode.
        corpus: path or URL of the corpus, the base of relative URIs.
        copy: state of the original file if `item` names a downloaded copy; None otherwise.
        hosts: hosts that URLs may name besides the corpus' own. The default is read from the
            environment of the process that creates the object, and is kept when the object is sent
            to another process.
    """

    item: Item
    corpus: str
    copy: FileState | None = None
    hosts: tuple[str, ...] = field(default_factory=allowed_hosts)

    @property
    def path(self) -> UPath:
        """Path of the file.

        Raises:
            DecodeError: the URL names a host that is not allowed. This is checked first because
                creating a path for some URLs opens a connection.
        """
        check_host(self.item, self.corpus, self.hosts)
        return locate(self.corpus, self.item)


@dataclass(frozen=True, slots=True)
class FileState:
    """Hash, size and modification time, which identify the content of a file.

    Attributes:
        sha256: SHA-256 hash of the file's bytes; None if the file could not be read.
        size_bytes: size of the file in bytes.
        mtime_ns: modification time in nanoseconds; only a hint that avoids hashing.
    """

    sha256: str | None
    size_bytes: int
    mtime_ns: int


def file_stat(source: ItemFile) -> tuple[int, int] | None:
    """Return a file's size in bytes and modification time in nanoseconds, or None if it is missing.

    Raises:
        DecodeError: the machine or the network failed: class "unavailable".
    """
    try:
        info = source.path.stat()
    except DecodeError:
        # The host is not allowed.
        return None
    except Exception as error:
        fault = _fault(source.path, error)
        if fault.error == "unavailable":
            raise fault from error
        return None
    return info.st_size, _mtime_ns(info)


def is_there(source: ItemFile) -> bool:
    """Return whether this machine sees an item's file."""
    try:
        return file_stat(source) is not None
    except DecodeError:
        return False


def lacks_corpus(source: ItemFile) -> bool:
    """Return whether this machine lacks an item's file because it does not see the corpus.

    The folder of the corpus is then missing, or empty like a mount point without its mount.
    """
    folder = as_path(source.corpus)
    if not _is_relative(source) or not is_local(folder):
        return False
    try:
        return next(folder.iterdir(), None) is None
    except OSError as error:
        return not is_machine_fault(error)


@contextmanager
def open_item_file(source: ItemFile) -> Iterator[tuple[Path, FileState]]:
    """Provide an item's file on a local disk, and its state, in a `with` block.

    Raises:
        DecodeError: the file is missing, empty, not a regular file (such files are never opened),
            outside its folder, or cannot be read. Class "unavailable" is a fault of the machine or
            the network.
        CredentialsError: the object store refuses the credentials.
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
    with ExitStack() as stack:
        try:
            info = path.stat()
            if info.st_size == 0:
                raise DecodeError("empty", f"{path}: has no bytes")
            copy = stack.enter_context(downloaded(path))
            state = FileState(_sha256(copy), copy.stat().st_size, _mtime_ns(info))
        except FileNotFoundError as error:
            raise DecodeError("missing", f"{path}: no such object") from error
        except Exception as error:
            # All other errors of an object store are faults of the store, whatever their number.
            if isinstance(error, OSError) or is_machine_fault(error):
                raise DecodeError("unavailable", f"{path}: {error}") from error
            raise
        # Outside the `try`, because errors of the `with` block do not concern the store.
        yield copy, state


def check_host(item: Item, corpus: str, hosts: Sequence[str]) -> None:
    """Check that an item's URL names the host of its corpus or an allowed host.

    Raises:
        DecodeError: the host is not allowed.
    """
    uri = item.uri
    if not is_url(uri) or is_allowed(uri, corpus, hosts):
        return
    raise DecodeError(
        "refused",
        f"{host_of(uri)}: not on the list of hosts, allowed: the corpus' own, or --allow-host",
    )


def hash_item_file(source: ItemFile) -> FileState | None:
    """Return the state of an item's file, or None if the file itself cannot be read.

    Raises:
        DecodeError: the machine or the network is at fault: class "unavailable".
    """
    try:
        with open_item_file(source) as (_, state):
            return state
    except DecodeError as error:
        if error.error == "unavailable":
            raise
        return None


def unread_file_state(source: ItemFile) -> FileState | None:
    """Return the state of a file without its hash, or None if its size and time are not known."""
    try:
        size_and_time = file_stat(source)
    except DecodeError:
        return None
    return FileState(None, *size_and_time) if size_and_time else None


def file_state(path: Path) -> FileState:
    """Hash a regular file of this machine and return its state.

    Raises:
        DecodeError: the file is missing, empty, not a regular file (such files are never opened),
            or unavailable, because the machine cannot read it now.
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
    """Convert an error of the file system: the file is missing, or cannot be read now."""
    reason = getattr(error, "strerror", None) or str(error)
    kind = "unavailable" if is_machine_fault(error) else "missing"
    return DecodeError(kind, f"{path}: {reason}")


def _is_relative(source: ItemFile) -> bool:
    """Return whether an item's URI starts at the folder of the corpus."""
    return not (is_url(source.item.uri) or Path(source.item.uri).is_absolute())


def _check_stays_inside(path: Path, source: ItemFile) -> None:
    """Check that a link does not lead outside.

    A file with a relative URI has to be in the corpus, the target of a link with an absolute URI in
    the folder of the link.
    """
    allowed_folder = Path(source.corpus) if _is_relative(source) else path.parent
    try:
        resolved = path.resolve(strict=True)
        inside = resolved.is_relative_to(allowed_folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:
        # ValueError: an embedded null byte. RuntimeError: a loop of links.
        raise _fault(path, error) from error
    if not inside:
        raise DecodeError(
            "refused", f"{path}: leads to {resolved}, allowed: below {allowed_folder}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mtime_ns(info: object) -> int:
    exact = getattr(info, "st_mtime_ns", None)
    # An object store reports the time in seconds or in milliseconds, depending on the request.
    return int(exact) if exact is not None else int(getattr(info, "st_mtime", 0)) * 10**9
