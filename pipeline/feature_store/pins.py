"""Pins, which preserve the data that a training or retraining started with while it runs.

    CORPUS/pins/<name>/items.parquet, examples.parquet   copies of the corpus' tables
    STORE/pins/<name>                                    the id of a snapshot that `gc` retains

A corpus is overwritten when it is imported again, and other programs may overwrite it in place, so
its tables are copied, not linked. They contain no media: a million examples take about ten
megabytes.

The job that pins something removes the pin when it is finished. A job that is killed leaves its
pins, because the call that resumes it uses them.
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

from intertitle.pipeline.corpus import PINS, TABLES
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.snapshot import current_id, require_current_id
from intertitle.pipeline.storage.paths import atomic_write, is_local

_log = logging.getLogger(__name__)

_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_MAX_TRIES = 20


def pin_name(holder: str) -> str:
    """Make a unique name for a pin, which begins with the name of its holder."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', holder)[:80]}-{uuid.uuid4().hex[:8]}"


def pin_corpus(corpus: UPath, name: str) -> bool:
    """Copy the current tables of a corpus, to be read with `Corpus(corpus, name)`.

    Returns:
        Whether the tables were copied; False, with a warning, if the folder is read-only.

    Raises:
        UserError: the corpus changed during every attempt.
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
        raise UserError(f"{corpus}: is being written to; call again when it is finished")
    except BaseException as error:
        # An incomplete copy is of no use.
        with suppress(OSError):
            unpin(corpus, name)
        if not isinstance(error, OSError) or not _is_read_only(error):
            raise
        _warn(corpus, "is imported again", error)
        return False


def pin_snapshot(store: UPath, name: str) -> str:
    """Pin the current snapshot of a store and return the snapshot's id.

    `gc` retains the current snapshot and the snapshots that are pinned when it starts, and nothing
    is published while it runs. So if the snapshot is still the current one after the pin was
    written, a `gc` that started earlier retains it as the current one, and a `gc` that starts later
    finds the pin.

    Raises:
        UserError: there is no store, or it changed during every attempt.
    """
    for _ in range(_MAX_TRIES):
        snapshot_id = require_current_id(store)
        try:
            atomic_write(store / PINS / name, partial(_write, f"{snapshot_id}\n".encode()))
        except OSError as error:
            if not _is_read_only(error):
                raise
            _warn(store, "is precomputed again and `intertitle gc` removes what it was", error)
            return snapshot_id
        if current_id(store) == snapshot_id:
            return snapshot_id
    raise UserError(f"{store}: is being written to; call again when it is finished")


def pinned_snapshot(store: UPath, name: str) -> str | None:
    """Return the id of the snapshot that a pin refers to, or None if there is no such pin."""
    file = store / PINS / name
    return file.read_text().strip() if file.is_file() else None


def pinned_snapshots(store: UPath) -> dict[str, str]:
    """Return the ids of the pinned snapshots of a store by the names of their pins."""
    folder = store / PINS
    try:
        listed = folder.fs.ls(folder.path, detail=False)
    except FileNotFoundError:
        return {}
    names = sorted(str(path).rstrip("/").rpartition("/")[2] for path in listed)
    pins = {name: pinned_snapshot(store, name) for name in names if not name.startswith(".")}
    return {name: snapshot for name, snapshot in pins.items() if snapshot}


def unpin(place: UPath, name: str) -> None:
    """Remove a pin of a corpus or a store, if it exists.

    The folder of the pins stays, because another process may be about to write a pin to it.
    """
    pin = place / PINS / name
    with suppress(FileNotFoundError):
        if is_local(pin):
            shutil.rmtree(pin) if pin.is_dir() else pin.unlink()
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
    """Return file states that change when a table of the corpus is written."""
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
