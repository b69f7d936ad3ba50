"""One writer a store: a lock on a folder, a lease on an object store."""

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

from pipeline.errors import JobError, UserError
from pipeline.faults import is_remote_failure
from pipeline.location import is_local

log = logging.getLogger(__name__)

# A lease that its holder has not renewed for this long belongs to somebody who is dead or cut off.
LEASE_S = 30.0
# After taking a lease, the time in which another who took it at the same moment would show.
_SETTLE_S = 1.0


@contextmanager
def only_writer(store: UPath) -> Iterator[Callable[[], None]]:
    """Hold a store for the length of a block.

    Yields:
        A function that makes sure it is still held; to be called before anything is published. It
        raises JobError if another took it, which can happen to one whom the network had cut off.

    Raises:
        UserError: another process holds it.
    """
    store.fs.makedirs(store.path, exist_ok=True)
    if is_local(store):
        with _lock(store / "LOCK"):
            yield lambda: None
    else:
        with _lease(store / "LOCK") as check:
            yield check


def _me() -> dict[str, object]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "owner": uuid.uuid4().hex}


def _busy(file: Path | UPath, holder: dict[str, object]) -> UserError:
    who = f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "another process"
    return UserError(f"{file.parent}: {who} is writing to this store; one at a time")


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """The system's own lock: it ends with the process that holds it, however that ends."""
    with file.open("a+") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            opened.seek(0)
            holder = opened.readline()
            raise _busy(file, json.loads(holder) if holder else {}) from error
        opened.truncate(0)
        opened.write(json.dumps(_me()) + "\n")
        opened.flush()
        yield


@contextmanager
def _lease(file: UPath) -> Iterator[Callable[[], None]]:
    me = _me()
    beats = 0
    stop = threading.Event()

    def read() -> dict[str, object] | None:
        try:
            found: dict[str, object] = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return found

    def is_mine() -> bool:
        return (read() or {}).get("owner") == me["owner"]

    def beat() -> None:
        nonlocal beats
        beats += 1
        file.write_text(json.dumps({**me, "beat": beats}))

    def keep() -> None:
        while not stop.wait(LEASE_S / 3):
            try:
                if not is_mine():
                    return
                beat()
            except Exception as error:
                known = isinstance(error, OSError | JobError) or is_remote_failure(error)
                if not known:
                    raise
                # Cut off; the next beat may get through, and `check` looks before it matters.
                continue

    def check() -> None:
        if not is_mine():
            raise JobError(f"{file.parent}: another process took this store over meanwhile")

    if (before := read()) is not None:
        patience = time.monotonic() + LEASE_S
        log.warning("%s: waiting whether the last writer is alive", file.parent)
        while time.monotonic() < patience:
            time.sleep(_SETTLE_S)
            if (now := read()) is None:
                break
            if now != before:
                raise _busy(file, now)
    beat()
    time.sleep(_SETTLE_S)
    if not is_mine():
        raise _busy(file, read() or {})
    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    try:
        yield check
    finally:
        stop.set()
        keeper.join()
        if is_mine():
            file.unlink()
