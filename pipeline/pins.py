"""Pins: what a training or a retraining began with stays, whatever arrives while it runs.

    CORPUS/pins/<name>/items.parquet, examples.parquet   the tables as they were: a copy
    STORE/pins/<name>                                    the id of a snapshot, which `gc` then keeps

A corpus is overwritten when it is imported again, by other programs in place: so its tables are
copied, not linked. They hold no media; a million examples take some ten megabytes.

Whoever pins something unpins it when it is finished. One that was killed leaves its pins, because
a second call goes on with them.
"""

from __future__ import annotations

import errno
import logging
import re
import shutil
import uuid
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from upath import UPath

from pipeline.corpus import PINS, TABLES
from pipeline.errors import UserError
from pipeline.location import is_local, write_whole
from pipeline.snapshot import current_id

_log = logging.getLogger(__name__)

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_MAX_TRIES = 20


def pin_name(holder: str) -> str:
    """A name that no other pin has, in which a person recognises who holds it."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', holder)[:80]}-{uuid.uuid4().hex[:8]}"


def pin_corpus(corpus: UPath, name: str) -> bool:
    """Copy a corpus' tables as they are now, for `Corpus(corpus, name)`.

    Returns:
        Whether they were copied; False, with a warning, where the folder is read-only.

    Raises:
        UserError: the corpus is being written all the time.
    """
    folder = corpus / PINS / name
    try:
        folder.fs.makedirs(folder.path, exist_ok=True)
        for _ in range(_MAX_TRIES):
            before = _states(corpus)
            for table in TABLES:
                _copy(corpus / table, folder / table)
            if _states(corpus) == before:
                return True
    except OSError as error:
        if not _is_read_only(error):
            raise
        _warn(corpus, "is imported again", error)
        return False
    unpin(corpus, name)
    raise UserError(f"{corpus}: is being written to; call again when it is finished")


def pin_snapshot(store: UPath, name: str) -> str:
    """Have a store keep its current snapshot, and return the snapshot's id.

    `gc` keeps the current snapshot and those that are pinned when it begins, and nothing is
    published meanwhile. So if the snapshot is the current one after the pin was written, a `gc`
    that began before keeps it as such, and one that begins later sees the pin.

    Raises:
        UserError: there is no store, or it changes all the time.
    """
    for _ in range(_MAX_TRIES):
        found = current_id(store)
        if found is None:
            raise UserError(
                f"{store}: not a feature store, or one that was never finished "
                "(`intertitle precompute` makes one)"
            )
        try:
            write_whole(store / PINS / name, partial(_write, f"{found}\n".encode()))
        except OSError as error:
            if not _is_read_only(error):
                raise
            _warn(store, "is precomputed anew and `intertitle gc` removes what it was", error)
            return found
        if current_id(store) == found:
            return found
    raise UserError(f"{store}: is being written to; call again when it is finished")


def pinned_snapshot(store: UPath, name: str) -> str | None:
    """The id of the snapshot that a pin of a store names; None where there is no such pin."""
    file = store / PINS / name
    return file.read_text().strip() if file.is_file() else None


def pinned_snapshots(store: UPath) -> dict[str, str]:
    """The ids of a store's pinned snapshots by the names of the pins."""
    folder = store / PINS
    try:
        listed = folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError:
        return {}
    names = sorted(str(path).rstrip("/").rpartition("/")[2] for path in listed)
    found = {name: pinned_snapshot(store, name) for name in names if not name.startswith(".")}
    return {name: snapshot for name, snapshot in found.items() if snapshot}


def unpin(place: UPath, name: str) -> None:
    """Remove a pin of a corpus or a store, if it is there."""
    pin = place / PINS / name
    with suppress(FileNotFoundError):
        if is_local(pin):
            shutil.rmtree(pin) if pin.is_dir() else pin.unlink()
            # The last one takes the folder along.
            with suppress(OSError):
                pin.parent.rmdir()
        else:
            pin.fs.rm(pin.path, recursive=True)


def _write(text: bytes, file: BinaryIO) -> None:
    file.write(text)


def _copy(source: UPath, target: UPath) -> None:
    if is_local(source) and is_local(target):
        shutil.copyfile(source, target)
    else:
        source.fs.cp_file(source.path, target.path)


def _states(corpus: UPath) -> list[object]:
    """What changes when one of a corpus' tables is written."""
    states: list[object] = []
    for table in TABLES:
        file = corpus / table
        if is_local(file):
            stat = file.stat()
            states.append((stat.st_ino, stat.st_size, stat.st_mtime_ns))
        else:
            states.append(file.fs.ukey(file.path))
    return states


def _is_read_only(error: OSError) -> bool:
    return isinstance(error, PermissionError) or error.errno in _READ_ONLY


def _warn(place: UPath, change: str, error: OSError) -> None:
    _log.warning(
        "%s: can't be pinned (%s): a training that is stopped can't go on if it %s meanwhile",
        *(place, error.strerror or error, change),
    )
