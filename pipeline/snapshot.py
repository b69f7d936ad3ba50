"""A snapshot: how every item of a corpus ended, and which shards hold the features.
    STORE/
      CURRENT                       the name of the snapshot that counts
      snapshots/<id>.parquet        a row for every item; the shards and the fingerprint as metadata
      shards/shard-<n>-<hash>.arrow accepted shards, named after their content
      shards/shard-<n>.<attempt>    being written; nobody reads it
      pending/<plan>.parquet        an accepted shard that no snapshot names yet
      STOPPED.parquet               the failures of a call that was ended by them; not a snapshot
      LOCK                          held by whoever writes

A reader trusts the snapshot alone and never lists a folder. Everything is a file that appears whole
under its name, so a folder and an object store serve alike.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from pipeline.errors import UserError
from pipeline.failpoints import failpoint
from pipeline.fingerprint import Fingerprint
from pipeline.location import write_whole
from pipeline.shards import ShardFile

# Rows turned into Python objects at a time.
_PART = 10_000


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """How one item ended: stored in a shard, or quarantined.

    Attributes:
        key: the item's.
        source: its uri.
        view: its kind, and its segment if it has one: the same file seen otherwise has others.
        sha256: of the file's bytes, or None where they could not be read.
        size_bytes: of the file.
        mtime_ns: of the file; with the size it saves hashing an unchanged file again.
        shard: name of the shard's file, or None for a quarantined item.
        row: which row of the shard.
        num_frames: T.
        stage: where it failed ("decode", "features"), or None for a stored one.
        error: the class of the failure.
        message: one line.
        degraded: why only a part of the file could be read, or None for a whole one.
        traceback: of an error that nobody foresaw, or None.
        file_missing: of a stored item: whether its file was away when the store was last looked
            after; its features stay.
    """

    key: str
    source: str
    view: str
    sha256: str | None = None
    size_bytes: int | None = None
    mtime_ns: int | None = None
    shard: str | None = None
    row: int | None = None
    num_frames: int | None = None
    stage: str | None = None
    error: str | None = None
    message: str | None = None
    degraded: str | None = None
    traceback: str | None = None
    file_missing: bool = False

    @property
    def is_stored(self) -> bool:
        return self.shard is not None


RECORD_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("shard", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("num_frames", pa.int64()),
        pa.field("stage", pa.string()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("degraded", pa.string()),
        pa.field("traceback", pa.string()),
        pa.field("file_missing", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of a store that readers can rely on.

    Attributes:
        fingerprint: what the features are made of.
        shards: the files that count, by name.
        table: how every item of the corpus ended, in the corpus' order: rows of RECORD_SCHEMA.
            A million take 300 MB as columns, and would take gigabytes as objects.
        versions: of the programs that made the features, from `versions.made_by`: one entry for
            each set of versions that took part, the newest last. It says where the features come
            from and is not part of the id: equal features made elsewhere are the same snapshot.
    """

    fingerprint: Fingerprint
    shards: dict[str, ShardFile]
    table: pa.Table
    versions: tuple[dict[str, str], ...] = ()

    def __len__(self) -> int:
        """Number of items."""
        return len(self.table)

    def records(self) -> Iterator[ItemRecord]:
        """How every item ended, one after the other."""
        return records_of(self.table)

    def id(self) -> str:
        """A hash of what the snapshot says, without times and paths of one machine."""
        digest = hashlib.sha256(self.fingerprint.to_json().encode())
        for name in sorted(self.shards):
            digest.update(f"{name} {self.shards[name].sha256}\n".encode())
        ended = self.table.select(["key", "view", "sha256", "shard", "row", "stage", "error"])
        ended = ended.append_column("degraded", pc.is_valid(self.table["degraded"]))
        for at in range(0, len(ended), _PART):
            for column in ended.slice(at, _PART).columns:
                digest.update(repr(column.to_pylist()).encode())
        return digest.hexdigest()[:32]

    def quarantined(self) -> list[ItemRecord]:
        """The items that have no features."""
        return list(records_of(self.table.filter(pc.is_null(self.table["shard"]))))

    def counts(self) -> Counter[str]:
        """How many items are "stored", and how many "quarantined"; of the stored ones, how many are
        "degraded", and of how many the file is away ("file_missing")."""
        total = len(self.table)
        quarantined = self.table["shard"].null_count
        degraded = total - self.table["degraded"].null_count
        return Counter(
            stored=total - quarantined,
            degraded=degraded,
            quarantined=quarantined,
            file_missing=pc.sum(self.table["file_missing"]).as_py() or 0,
        )


def table_of(records: Iterable[ItemRecord]) -> pa.Table:
    """Records as columns."""
    # Not `asdict`, which copies deeply: there may be a million.
    names = RECORD_SCHEMA.names
    rows = [{name: getattr(record, name) for name in names} for record in records]
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def records_of(table: pa.Table) -> Iterator[ItemRecord]:
    """The inverse of `table_of`, a part at a time."""
    for batch in table.to_batches(max_chunksize=_PART):
        for row in batch.to_pylist():
            yield ItemRecord(**row)


def write_snapshot(path: UPath, snapshot: Snapshot) -> None:
    """Write a table of records with its shards and fingerprint: whole, or not at all."""
    shards = [asdict(snapshot.shards[name]) for name in sorted(snapshot.shards)]
    metadata = {
        "fingerprint": snapshot.fingerprint.to_json(),
        "shards": json.dumps(shards),
        "versions": json.dumps(snapshot.versions),
    }
    table = snapshot.table.replace_schema_metadata(metadata)
    write_whole(path, lambda file: pq.write_table(table, file))


def load_snapshot(path: UPath) -> Snapshot:
    """The inverse of `write_snapshot`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
        metadata = table.schema.metadata
        fingerprint = Fingerprint.from_json(metadata[b"fingerprint"].decode())
        shards = [ShardFile(**shard) for shard in json.loads(metadata[b"shards"])]
        # Stores of an earlier version have no such entry, and fewer columns.
        versions = tuple(json.loads(metadata.get(b"versions", b"[]")))
        table = _with_new_columns(table.replace_schema_metadata(None)).cast(RECORD_SCHEMA)
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a readable snapshot: {error}") from error
    return Snapshot(fingerprint, {shard.name: shard for shard in shards}, table, versions)


def _with_new_columns(table: pa.Table) -> pa.Table:
    """A table of records with the columns that came later, empty."""
    for name, empty in (("traceback", None), ("file_missing", False)):
        if name not in table.column_names:
            field = RECORD_SCHEMA.field(name)
            table = table.append_column(field, pa.array([empty] * len(table), field.type))
    return table


def _stopped(store: UPath) -> UPath:
    return store / "STOPPED.parquet"


def write_stopped(store: UPath, failures: Snapshot) -> None:
    """Keep what a call had met that was ended by its failures: a snapshot of these items alone."""
    write_snapshot(_stopped(store), failures)


def read_stopped(store: UPath) -> Snapshot | None:
    """The failures of the last call, if they ended it, or None."""
    file = _stopped(store)
    return load_snapshot(file) if file.is_file() else None


def forget_stopped(store: UPath) -> None:
    """Drop the failures of a call after which another came to its end."""
    _stopped(store).unlink(missing_ok=True)


def current_id(store: UPath) -> str | None:
    """The id of the snapshot that a store's pointer names, or None for a store that has none."""
    pointer = store / "CURRENT"
    return pointer.read_text().strip() if pointer.exists() else None


def current_snapshot(store: UPath) -> Snapshot | None:
    """The snapshot that a store's pointer names, or None for a store that has none yet."""
    snapshot_id = current_id(store)
    return None if snapshot_id is None else read_snapshot(store, snapshot_id)


def read_snapshot(store: UPath, snapshot_id: str) -> Snapshot:
    """A snapshot by its id.

    Raises:
        UserError: the store has none of that id, or it is damaged.
    """
    file = store / "snapshots" / f"{snapshot_id}.parquet"
    if not file.is_file():
        raise UserError(f"{store}: has no snapshot {snapshot_id}")
    snapshot = load_snapshot(file)
    if snapshot.id() != snapshot_id:
        raise UserError(f"{file}: damaged: what it holds does not have the hash of its name")
    return snapshot


def publish(store: UPath, snapshot: Snapshot, check_held: Callable[[], None] = lambda: None) -> str:
    """Write a snapshot, then swap the pointer to it; returns its id.

    Args:
        store: where.
        snapshot: what it holds now.
        check_held: raises if the store is no longer this process's to write; called last.
    """
    name = snapshot.id()
    failpoint("before-snapshot")
    write_snapshot(store / "snapshots" / f"{name}.parquet", snapshot)
    failpoint("before-pointer")
    check_held()
    write_whole(store / "CURRENT", lambda file: file.write(f"{name}\n".encode()))
    failpoint("after-pointer")
    return name
