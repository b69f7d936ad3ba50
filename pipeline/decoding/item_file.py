"""Location, access check and content hash of an item's file."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from upath import UPath

from intertitle.pipeline.corpus import Item, Member, locate, parse_member
from intertitle.pipeline.decoding.copies import (
    copy_member,
    copy_object,
    copy_web,
    fault_of,
    mtime_ns,
    regular_file,
)
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.storage.allowed_hosts import allowed_hosts, host_of, is_allowed
from intertitle.pipeline.storage.faults import CredentialsError, is_machine_fault
from intertitle.pipeline.storage.paths import as_path, is_local, is_url
from intertitle.pipeline.storage.web import WebClient, is_web, user_agent

DEFAULT_LIMITS = Limits()


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
        user_agent: `User-Agent` of requests by http and https; the default is like that of `hosts`.
    """

    item: Item
    corpus: str
    copy: FileState | None = None
    hosts: tuple[str, ...] = field(default_factory=allowed_hosts)
    user_agent: str = field(default_factory=user_agent)

    @property
    def member(self) -> Member | None:
        """Range of the file's bytes that the item is; None if it is the whole file."""
        return parse_member(self.item.uri)

    @property
    def uri(self) -> str:
        """URI of the file, or of the larger file that the item is a member of."""
        member = self.member
        return member.uri if member else self.item.uri

    @property
    def name(self) -> str:
        """Path of the file for messages, with the range of its bytes if the item is a member."""
        member = self.member
        return f"{self.path}[{member.offset}+{member.size_bytes}]" if member else str(self.path)

    @property
    def path(self) -> UPath:
        """Path of the file, or of the larger file that the item is a member of.

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
        CredentialsError: the object store refuses the credentials.
    """
    member = source.member
    try:
        path = source.path
    except DecodeError:
        # The host is not allowed.
        return None
    try:
        if (url := _web_url(source)) is not None:
            size_and_time = _client(source, DEFAULT_LIMITS).stat(url)
        else:
            info = path.stat()
            size_and_time = info.st_size, mtime_ns(info)
    except CredentialsError:
        raise
    except Exception as error:
        fault = fault_of(path, error)
        if fault.error == "unavailable":
            raise fault from error
        return None
    if size_and_time is None or member is None:
        return size_and_time
    return member.size_bytes, size_and_time[1]


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
def open_item_file(
    source: ItemFile, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[Path, FileState]]:
    """Provide an item's file on a local disk, and its state, in a `with` block.

    Args:
        source: item to open.
        limits: limits on the time and the size of a download.

    Raises:
        DecodeError: the file is missing, empty, not a regular file (such files are never opened),
            outside its folder, too large to be fetched, or cannot be read. Class "unavailable" is a
            fault of the machine or the network.
        CredentialsError: the object store refuses the credentials.
    """
    path = source.path
    if source.copy is not None:
        yield Path(str(path)), source.copy
        return
    if not is_url(source.uri) and ".." in PurePosixPath(source.uri).parts:
        raise DecodeError("refused", f"{path}: leads out of the corpus")
    if is_local(path):
        _check_stays_inside(path, source)
        if source.member is None:
            yield path, file_state(path)
            return
    # The copy has no name, so nothing is left of it even if the process is killed.
    with tempfile.TemporaryFile() as file:
        changed_ns = _copy(source, path, file, limits)
        copy = Path(f"/proc/self/fd/{file.fileno()}")
        yield copy, FileState(_sha256(copy), copy.stat().st_size, changed_ns)


def _copy(source: ItemFile, path: UPath, target: BinaryIO, limits: Limits) -> int:
    """Copy an item's bytes to a file; return the time of its last change in nanoseconds."""
    member = source.member
    if member is not None and is_local(path):
        return copy_member(path, member, target)
    if (url := _web_url(source)) is not None:
        return copy_web(_client(source, limits), url, member, target)
    return copy_object(path, member, target, limits.download_bytes)


def _web_url(source: ItemFile) -> str | None:
    """Return the URL of a file that is had by http or https; None for other files."""
    url = source.uri if is_url(source.uri) else str(source.path)
    return url if is_web(url) else None


def _client(source: ItemFile, limits: Limits) -> WebClient:
    is_allowed_url = partial(is_allowed, corpus=source.corpus, hosts=source.hosts)
    return WebClient(is_allowed_url, source.user_agent, limits.seconds, limits.download_bytes)


def check_host(item: Item, corpus: str, hosts: Sequence[str]) -> None:
    """Check that an item's URL names the host of its corpus or an allowed host.

    Raises:
        DecodeError: the host is not allowed.
    """
    member = parse_member(item.uri)
    uri = member.uri if member else item.uri
    if not is_url(uri) or is_allowed(uri, corpus, hosts):
        return
    try:
        host = host_of(uri)
    except ValueError as error:
        raise DecodeError("refused", f"{one_line(uri)}: not a URL: {error}") from error
    if is_allowed(host, corpus, hosts):
        raise DecodeError(
            "refused",
            f"{one_line(uri)}: allowed: a URL without user name, backslash and control characters",
        )
    raise DecodeError(
        "refused",
        f"{host}: not on the list of hosts, allowed: the corpus' own, or --allow-host",
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
    info = regular_file(path)
    try:
        return FileState(_sha256(path), info.st_size, info.st_mtime_ns)
    except OSError as error:
        raise fault_of(path, error) from error


def _is_relative(source: ItemFile) -> bool:
    """Return whether an item's URI starts at the folder of the corpus."""
    return not (is_url(source.uri) or Path(source.uri).is_absolute())


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
        raise fault_of(path, error) from error
    if not inside:
        raise DecodeError(
            "refused", f"{path}: leads to {resolved}, allowed: below {allowed_folder}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
