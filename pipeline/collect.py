"""What of a store's files nothing names any more, and its removal."""

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

from pipeline.errors import UserError
from pipeline.failpoints import failpoint
from pipeline.location import is_local, sync_folder
from pipeline.lock import only_writer
from pipeline.pins import pinned_snapshots, unpin
from pipeline.shards import SUFFIXES
from pipeline.snapshot import Snapshot, load_snapshot, read_snapshot

# What kinds of files are removed, in the order in which they are: a process that dies half-way
# leaves no snapshot, and no note, without its shards.
KINDS = ("snapshots", "notes", "shards", "attempts", "unfinished")

_SHARD = re.compile(rf"shard-\d+-.+({'|'.join(map(re.escape, SUFFIXES.values()))})")
_ATTEMPT = re.compile(r"shard-\d+\..+")
# How often a lease on an object store is looked at, in files removed.
_CHECK_EVERY = 100


@dataclass(frozen=True, slots=True)
class Pile:
    """Files of one kind.

    Attributes:
        num_files: how many.
        num_bytes: their length in all.
    """

    num_files: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What `collect` removed, or would have.

    Attributes:
        current: the id of the current snapshot.
        kept: the ids of all snapshots that stayed, the current one first.
        pinned: the ids of those that a pin names, by its name.
        removed: by kind, every one of KINDS.
        dry_run: whether nothing was removed.
    """

    current: str
    kept: tuple[str, ...]
    pinned: dict[str, str]
    removed: dict[str, Pile]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot's file.

    Attributes:
        id: of the snapshot.
        written: when, by the file's time.
        num_items: rows, or None where the file can't be read.
        is_readable: whether the file can be read and all its shards are there in full length.
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
    """The snapshots that a store still has, the newest first."""
    sizes = {file.name: file.num_bytes for file in _listed(store, "shards")}
    found = []
    for file in _tables(store, "snapshots"):
        name, written = file.name.removesuffix(".parquet"), _written(store, file.path)
        try:
            with store.fs.open(file.path, "rb") as opened:
                parquet = pq.ParquetFile(opened)
                num_items = parquet.metadata.num_rows
                named = json.loads(parquet.schema_arrow.metadata[b"shards"])
            whole = all(sizes.get(shard["name"]) == shard["num_bytes"] for shard in named)
        except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError):
            num_items, whole = None, False
        found.append(StoredSnapshot(name, written, num_items, whole))
    return sorted(found, key=lambda snapshot: snapshot.written, reverse=True)


def require_snapshots(store: UPath, ids: Sequence[str]) -> None:
    """Make sure that a store has snapshots of these ids.

    Raises:
        UserError: it has not; the message lists those there are.
    """
    there = [file.name.removesuffix(".parquet") for file in _tables(store, "snapshots")]
    for name in ids:
        if name not in there:
            raise UserError(f"{store}: has no snapshot {name!r}, allowed: {', '.join(there)}")


def collect(
    store: UPath,
    keep: Sequence[str] = (),
    dry_run: bool = False,
    release: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Collected:
    """Remove every file of a store that no snapshot worth keeping names.

    What stays: the current snapshot, those in `keep` or pinned by a run that is not finished, their
    shards, and what a call that died after the current snapshot was published had finished: its
    notes and their shards. Files that no part
    of this program writes stay too.

    Args:
        store: whose lock is held meanwhile.
        keep: ids of other snapshots that stay.
        dry_run: whether files are only counted.
        release: names of pins that no longer count, and go.
        on_progress: told how many files of how many are gone.

    Raises:
        UserError: there is no store, it has no snapshot of an id or no pin of a name, another
            process writes to it, or what is to be kept is damaged. Nothing is removed then.
        JobError: another process took the store over meanwhile.
    """
    pointer = store / "CURRENT"
    if not pointer.is_file():
        # Before the lock, which would make a folder of it.
        raise UserError(f"{store}: not a feature store, or one that was never finished")
    with only_writer(store) as still_mine:
        if not is_local(store):
            store.fs.invalidate_cache()
        current = pointer.read_text().strip()
        require_snapshots(store, keep)
        pins = _pins(store, release)
        kept = tuple(dict.fromkeys([current, *keep, *pins.values()]))
        todo = _unnamed(store, kept)
        if not dry_run:
            for pin in release:
                unpin(store, pin)
            _remove(store, todo, still_mine, on_progress)
    removed = {kind: Pile(len(f), sum(file.num_bytes for file in f)) for kind, f in todo.items()}
    return Collected(current, kept, pins, removed, dry_run)


def _pins(store: UPath, release: Sequence[str]) -> dict[str, str]:
    """The pinned snapshots that are there, by the names of the pins that still count."""
    pins = pinned_snapshots(store)
    for name in release:
        if name not in pins:
            raise UserError(f"{store}: has no pin {name!r}, allowed: {', '.join(pins) or 'none'}")
    there = {file.name.removesuffix(".parquet") for file in _tables(store, "snapshots")}
    return {n: found for n, found in pins.items() if n not in release and found in there}


def _unnamed(store: UPath, kept: tuple[str, ...]) -> dict[str, list[_File]]:
    """The files that can go, by kind, in the order of KINDS."""
    shards = _listed(store, "shards")
    sizes = {file.name: file.num_bytes for file in shards}
    named: set[str] = set()
    for name in kept:
        named |= _whole(store, name, sizes).shards.keys()
    todo: dict[str, list[_File]] = {kind: [] for kind in KINDS}
    kept_files = {f"{name}.parquet" for name in kept}
    todo["snapshots"] = [f for f in _tables(store, "snapshots") if f.name not in kept_files]
    published = _written(store, (store / "CURRENT").path)
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
    """A snapshot that is sound: of a damaged store nothing is removed that may help to mend it.

    Raises:
        UserError: it is damaged, or one of its shards is.
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
            # A power cut does not bring them back after their shards are gone.
            sync_folder(store / "snapshots")
        last = kind
        failpoint("gc", file.name)
        # Gone already is as good.
        with suppress(FileNotFoundError):
            store.fs.rm_file(file.path)
        if on_progress:
            on_progress(done, len(files))


def _tables(store: UPath, folder: str) -> list[_File]:
    files = _listed(store, folder)
    return [f for f in files if f.name.endswith(".parquet") and not _is_unfinished(f)]


def _is_unfinished(file: _File) -> bool:
    return file.name.startswith(".") and file.name.endswith(".writing")


def _listed(store: UPath, folder: str) -> list[_File]:
    """The files of one of a store's folders, by name; none where there is no such folder."""
    try:
        entries = store.fs.ls((store / folder).path if folder else store.path, detail=True)
    except FileNotFoundError:
        return []
    found = [(e["name"], int(e["size"] or 0)) for e in entries if e["type"] == "file"]
    return sorted(_File(path.rpartition("/")[2], path, size) for path, size in found)


def _written(store: UPath, path: str) -> datetime:
    """When a file was last written."""
    when: datetime = store.fs.modified(path)
    return when if when.tzinfo else when.replace(tzinfo=UTC)
