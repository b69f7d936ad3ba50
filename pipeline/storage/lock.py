"""Exclusive write access to a store: a file lock in a folder, or a lease in an object store.

The lease is a file that its holder renews. In S3 and the stores that have its conditional writes
(`If-None-Match: *`), the file is created only if there is none, so that one of several processes
that start at the same moment gets it. A store that lacks them (rclone, for example) is recognized
by its answers, and other protocols are not asked: there the file is written, and read back after a
pause, so that of processes that write within the pause the last one gets the lease. The lease of a
dead process is replaced with the pause in both cases. A holder that another process replaced learns
it before it publishes anything.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.storage.faults import is_remote_failure
from intertitle.pipeline.storage.paths import is_local

log = logging.getLogger(__name__)

# A lease that its holder has not renewed for this time has expired: the holder is dead or has lost
# its connection.
LEASE_S = 30.0
# Time to wait after taking a lease, to detect another process that took it at the same moment.
_SETTLE_S = 1.0
# Protocols whose file system has `create_file`. fsspec's own conditional creation is, for most
# other protocols, a check followed by a write.
_CONDITIONAL_PROTOCOLS = ("s3", "s3a")


@contextmanager
def single_writer_lock(store: UPath) -> Iterator[Callable[[], None]]:
    """Lock a store for writing in a `with` block.

    Yields:
        A function that checks that the lock is still held, to be called before anything is
        published. It raises JobError if another process took the lock, which can happen after this
        process lost its network connection.

    Raises:
        UserError: another process holds the lock.
    """
    store.fs.makedirs(store.path, exist_ok=True)
    if is_local(store):
        with _lock(store / "LOCK"):
            yield lambda: None
    else:
        with _lease(store / "LOCK") as check:
            yield check


def _holder() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "owner": uuid.uuid4().hex}


def _busy(file: Path | UPath, holder: dict[str, object]) -> UserError:
    writer = (
        f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "another process"
    )
    return UserError(f"{file.parent}: {writer} is writing to this store; one at a time")


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Hold a lock of the operating system, which is released even if the process is killed."""
    with file.open("a+") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            opened.seek(0)
            holder = opened.readline()
            raise _busy(file, json.loads(holder) if holder else {}) from error
        opened.truncate(0)
        opened.write(json.dumps(_holder()) + "\n")
        opened.flush()
        yield


@contextmanager
def _lease(file: UPath) -> Iterator[Callable[[], None]]:
    """Hold a lease, which a thread renews; yield a function that checks it."""
    lease = _Lease(file)
    lease.take()
    stop = threading.Event()
    keeper = threading.Thread(target=lease.renew_periodically, args=(stop,), daemon=True)
    keeper.start()
    try:
        yield lease.check
    finally:
        stop.set()
        keeper.join()
        if lease.is_mine():
            lease.remove()


class _Lease:
    """Lease of this process on a store: a file that names its holder.

    Args:
        file: path of the file.
    """

    def __init__(self, file: UPath) -> None:
        self._file = file
        self._holder = _holder()
        self._beats = 0

    def take(self) -> None:
        """Write the file, after its last holder has released it or is dead.

        Raises:
            UserError: another process holds the lease.
        """
        expired = self._wait_for_end()
        if not self._create(expired):
            time.sleep(_SETTLE_S)
            if not self.is_mine():
                raise _busy(self._file, self._read() or {})

    def is_mine(self) -> bool:
        """Return whether this process holds the lease."""
        return (self._read() or {}).get("owner") == self._holder["owner"]

    def check(self) -> None:
        """Raise JobError if another process holds the lease."""
        if not self.is_mine():
            raise JobError(f"{self._file.parent}: another process took this store over meanwhile")

    def remove(self) -> None:
        """Remove the file."""
        self._file.fs.rm_file(self._file.path)

    def renew_periodically(self, stop: threading.Event) -> None:
        """Renew the lease periodically until `stop` is set or another process holds it."""
        while not stop.wait(LEASE_S / 3):
            try:
                if not self.is_mine():
                    return
                self._renew()
            except Exception as error:
                known = isinstance(error, OSError | JobError) or is_remote_failure(error)
                if not known:
                    raise
                # The connection is lost. The next renewal may succeed, and `check` verifies the
                # lease before anything is published.
                continue

    def _wait_for_end(self) -> dict[str, object] | None:
        """Wait until the lease of another process has ended.

        Returns:
            The holder that the file still names because its lease expired; None if there is no
            file.
        """
        if (before := self._read()) is None:
            return None
        deadline = time.monotonic() + LEASE_S
        log.warning("%s: waiting whether the last writer is alive", self._file.parent)
        while time.monotonic() < deadline:
            time.sleep(_SETTLE_S)
            if (now := self._read()) is None:
                return None
            if now != before:
                raise _busy(self._file, now)
        return before

    def _create(self, expired: dict[str, object] | None) -> bool:
        """Write the file, by conditional creation if the store has it.

        Args:
            expired: holder that the file names, whose lease has expired; None if there is no file.

        Returns:
            Whether no other process can have written the file at the same moment.
        """
        if self._file.protocol not in _CONDITIONAL_PROTOCOLS:
            self._renew()
            return False
        try:
            if self._create_file():
                # A store that ignores the condition creates the file a second time.
                return not self._create_file()
            if self.is_mine():
                # The response to the creation was lost, and its repetition was refused.
                return True
            if expired is None or self._read() != expired:
                raise _busy(self._file, self._read() or {})
            # Another process may remove the file for the same reason, and then remove this one's.
            self.remove()
            if not self._create_file() and not self.is_mine():
                raise _busy(self._file, self._read() or {})
        except NotImplementedError:
            self._renew()
        return False

    def _create_file(self) -> bool:
        """Create the file if there is none; return whether it was created."""
        created: bool = self._file.fs.create_file(self._file.path, self._content())
        return created

    def _renew(self) -> None:
        self._beats += 1
        self._file.write_bytes(self._content())

    def _content(self) -> bytes:
        return json.dumps({**self._holder, "beat": self._beats}).encode()

    def _read(self) -> dict[str, object] | None:
        """Return the holder that the file names, or None if there is no file."""
        try:
            holder: dict[str, object] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return None
        return holder
