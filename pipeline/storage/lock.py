"""Exclusive write access to a store: a file lock in a folder, or a lease in an object store."""

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
    """Hold a lease, a file that this process renews; yield a function that checks it."""
    own_holder = _holder()
    beats = 0
    stop = threading.Event()

    def read() -> dict[str, object] | None:
        """Return the holder that the lease file names, or None if there is no file."""
        try:
            holder: dict[str, object] = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return holder

    def is_mine() -> bool:
        """Return whether this process holds the lease."""
        return (read() or {}).get("owner") == own_holder["owner"]

    def beat() -> None:
        """Renew the lease."""
        nonlocal beats
        beats += 1
        file.write_text(json.dumps({**own_holder, "beat": beats}))

    def renew_periodically() -> None:
        """Renew the lease periodically until `stop` is set or another process holds it."""
        while not stop.wait(LEASE_S / 3):
            try:
                if not is_mine():
                    return
                beat()
            except Exception as error:
                known = isinstance(error, OSError | JobError) or is_remote_failure(error)
                if not known:
                    raise
                # The connection is lost. The next renewal may succeed, and `check` verifies the
                # lease before anything is published.
                continue

    def check() -> None:
        """Raise JobError if another process holds the lease."""
        if not is_mine():
            raise JobError(f"{file.parent}: another process took this store over meanwhile")

    if (before := read()) is not None:
        deadline = time.monotonic() + LEASE_S
        log.warning("%s: waiting whether the last writer is alive", file.parent)
        while time.monotonic() < deadline:
            time.sleep(_SETTLE_S)
            if (now := read()) is None:
                break
            if now != before:
                raise _busy(file, now)
    beat()
    time.sleep(_SETTLE_S)
    if not is_mine():
        raise _busy(file, read() or {})
    keeper = threading.Thread(target=renew_periodically, daemon=True)
    keeper.start()
    try:
        yield check
    finally:
        stop.set()
        keeper.join()
        if is_mine():
            file.unlink()
