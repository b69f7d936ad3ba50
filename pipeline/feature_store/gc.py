"""Garbage collection: remove the files of a feature store that nothing refers to any more."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.pins import pinned_snapshots, unpin
from intertitle.pipeline.feature_store.shards import SHARD_FORMAT, SUFFIXES
from intertitle.pipeline.feature_store.snapshot import (
    SHARD_VERSION_FIELD,
    SNAPSHOT_FORMAT,
    Snapshot,
    load_snapshot,
    read_snapshot,
    require_current_id,
)
from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.pipeline.storage.lock import single_writer_lock
from intertitle.pipeline.storage.paths import is_local, is_unfinished, sync_path

# Kinds of files that are removed, in the order of their removal: if the process dies half-way, all
# snapshots and notes that are left still have their shards.
KINDS = ("snapshots", "notes", "shards", "attempts", "unfinished")

_SHARD = re.compile(rf"shard-\d+-.+({'|'.join(map(re.escape, SUFFIXES.values()))})")
_ATTEMPT = re.compile(r"shard-\d+\..+")
# Number of files to remove between two checks of the lock on an object store.
_CHECK_EVERY = 100


@dataclass(frozen=True, slots=True)
class FileGroup:
    """Number and size of the files of one kind.

    Attributes:
        num_files: number of files.
        num_bytes: total size of the files, in bytes.
    """

    num_files: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GCReport:
    """Result of `collect`: the files that it removed, or would remove in a dry run.

    Attributes:
        current: id of the current snapshot.
        retained_ids: ids of all snapshots that stayed, the current one first.
        pinned: ids of the pinned snapshots by the names of their pins.
        removed: removed files by kind, with an entry for every kind in KINDS.
        dry_run: whether the files were only counted, not removed.
    """

    current: str
    retained_ids: tuple[str, ...]
    pinned: dict[str, str]
    removed: dict[str, FileGroup]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """The file of a snapshot in a store.

    Attributes:
        id: id of the snapshot.
        written: time at which it was written; of a file that can't be read, its modification time.
        num_items: number of items, or None if the file can't be read.
        is_readable: whether the file can be read and all its shards exist in full length.
    """

    id: str
    written: datetime
    num_items: int | None
    is_readable: bool


@dataclass(frozen=True, slots=True, order=True)
class _File:
    name: str
    path: str
    num_bytes: int


def list_snapshots(store: UPath) -> list[StoredSnapshot]:
    """List the snapshots that a store still has, the newest first."""
    sizes = {file.name: file.num_bytes for file in _listed(store, "shards")}
    snapshots = []
    for file in _tables(store, "snapshots"):
        name, written = file.name.removesuffix(".parquet"), _written(store, file.path)
        try:
            with store.fs.open(file.path, "rb") as opened:
                parquet = pq.ParquetFile(opened)
                metadata = parquet.schema_arrow.metadata
                SNAPSHOT_FORMAT.check_metadata(file.path, metadata)
                SHARD_FORMAT.check_metadata(file.path, metadata, SHARD_VERSION_FIELD)
                num_items = parquet.metadata.num_rows
                named = json.loads(metadata[b"shards"])
            is_complete = all(sizes.get(shard["name"]) == shard["num_bytes"] for shard in named)
        except (UserError, pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
            num_items, is_complete = None, False
        snapshots.append(StoredSnapshot(name, written, num_items, is_complete))
    return sorted(snapshots, key=lambda snapshot: snapshot.written, reverse=True)


def require_snapshots(store: UPath, ids: Sequence[str]) -> None:
    """Check that a store has snapshots with the given ids.

    Raises:
        UserError: a snapshot is missing; the message lists those that exist.
    """
    existing = [file.name.removesuffix(".parquet") for file in _tables(store, "snapshots")]
    for name in ids:
        if name not in existing:
            raise UserError(f"{store}: has no snapshot {name!r}, allowed: {', '.join(existing)}")


def collect(
    store: UPath,
    extra_ids: Sequence[str] = (),
    dry_run: bool = False,
    release: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> GCReport:
    """Remove every file of a store that no retained snapshot refers to.

    Retained are the current snapshot, the snapshots in `extra_ids`, those that a run which is not
    finished has pinned, and the shards of all of these. Also retained is the finished work of a
    `precompute` call that died after the current snapshot was published: its notes and their
    shards. Files that Intertitle does not write are never removed.

    Args:
        store: feature store; its lock is held during the call.
        extra_ids: ids of additional snapshots to retain.
        dry_run: whether files are only counted, not removed.
        release: names of pins to ignore and remove.
        on_progress: callback with the number of files removed and their total.

    Raises:
        UserError: there is no store, it has no snapshot with a given id or no pin with a given
            name, another process writes to it, or a file to retain is damaged. Nothing is removed
            then.
        JobError: another process took over the store's lock during the call.
    """
    # Checked before the lock is taken, because taking it would create the folder.
    require_current_id(store)
    with single_writer_lock(store) as still_mine:
        if not is_local(store):
            store.fs.invalidate_cache()
        current = require_current_id(store)
        require_snapshots(store, extra_ids)
        pins = _pins(store, release)
        retained = tuple(dict.fromkeys([current, *extra_ids, *pins.values()]))
        todo = _unnamed(store, retained)
        if not dry_run:
            for pin in release:
                unpin(store, pin)
            _remove(store, todo, still_mine, on_progress)
    removed = {
        kind: FileGroup(len(f), sum(file.num_bytes for file in f)) for kind, f in todo.items()
    }
    return GCReport(current, retained, pins, removed, dry_run)


def _pins(store: UPath, release: Sequence[str]) -> dict[str, str]:
    """Return the pinned snapshots that exist, by the names of pins that are not released."""
    pins = pinned_snapshots(store)
    for name in release:
        if name not in pins:
            raise UserError(f"{store}: has no pin {name!r}, allowed: {', '.join(pins) or 'none'}")
    existing = {file.name.removesuffix(".parquet") for file in _tables(store, "snapshots")}
    return {
        n: snapshot for n, snapshot in pins.items() if n not in release and snapshot in existing
    }


def _unnamed(store: UPath, retained_ids: tuple[str, ...]) -> dict[str, list[_File]]:
    """List the files that can be removed, by kind, in the order of KINDS."""
    shards = _listed(store, "shards")
    sizes = {file.name: file.num_bytes for file in shards}
    named: set[str] = set()
    for name in retained_ids:
        named |= _whole(store, name, sizes).shards.keys()
    todo: dict[str, list[_File]] = {kind: [] for kind in KINDS}
    retained_files = {f"{name}.parquet" for name in retained_ids}
    todo["snapshots"] = [f for f in _tables(store, "snapshots") if f.name not in retained_files]
    published = _written(store, (store / "snapshots" / f"{retained_ids[0]}.parquet").path)
    for file in _tables(store, "pending"):
        if _written(store, file.path) < published:
            todo["notes"].append(file)
        else:
            named |= load_snapshot(store / "pending" / file.name).shards.keys()
    for file in shards:
        if _SHARD.fullmatch(file.name):
            todo["shards"] += [] if file.name in named else [file]
        elif _ATTEMPT.fullmatch(file.name):
            todo["attempts"].append(file)
    for folder in ("", "snapshots", "shards", "pending"):
        todo["unfinished"] += filter(_is_unfinished, _listed(store, folder))
    return todo


def _whole(store: UPath, name: str, sizes: dict[str, int]) -> Snapshot:
    """Read a snapshot and check that its shards are complete.

    Nothing is removed from a damaged store, because any file may help to repair it.

    Raises:
        UserError: the snapshot is damaged, or one of its shards is missing or damaged.
    """
    snapshot = read_snapshot(store, name)
    for shard in snapshot.shards.values():
        if sizes.get(shard.name) != shard.num_bytes:
            raise UserError(
                f"{store / 'shards' / shard.name}: snapshot {name} names this shard, but it is "
                "missing or damaged; nothing removed (`intertitle precompute` makes it again)"
            )
    return snapshot


def _remove(
    store: UPath,
    todo: dict[str, list[_File]],
    still_mine: Callable[[], None],
    on_progress: Callable[[int, int], None] | None,
) -> None:
    files = [(kind, file) for kind in KINDS for file in todo[kind]]
    last = ""
    for done, (kind, file) in enumerate(files, start=1):
        if kind != last or not done % _CHECK_EVERY:
            still_mine()
        if last == "snapshots" != kind and is_local(store):
            # After a power cut, no snapshot must reappear whose shards are already removed.
            sync_path(store / "snapshots")
        last = kind
        failpoint("gc", file.name)
        # The file may already be gone.
        with suppress(FileNotFoundError):
            store.fs.rm_file(file.path)
        if on_progress:
            on_progress(done, len(files))


def _tables(store: UPath, folder: str) -> list[_File]:
    files = _listed(store, folder)
    return [f for f in files if f.name.endswith(".parquet") and not _is_unfinished(f)]


def _is_unfinished(file: _File) -> bool:
    return is_unfinished(file.name)


def _listed(store: UPath, folder: str) -> list[_File]:
    """List the files in a folder of a store, sorted by name; empty if there is no such folder."""
    try:
        entries = store.fs.ls((store / folder).path if folder else store.path, detail=True)
    except FileNotFoundError:
        return []
    files = [(e["name"], int(e["size"] or 0)) for e in entries if e["type"] == "file"]
    return sorted(_File(path.rpartition("/")[2], path, size) for path, size in files)


def _written(store: UPath, path: str) -> datetime:
    """Return when a snapshot or a note was written, which a copy of its file keeps."""
    with suppress(pa.ArrowInvalid, OSError, ValueError), store.fs.open(path, "rb") as file:
        if time := (pq.read_schema(file).metadata or {}).get(b"written"):
            return datetime.fromisoformat(time.decode())
    modified: datetime = store.fs.modified(path)
    return modified if modified.tzinfo else modified.replace(tzinfo=UTC)
