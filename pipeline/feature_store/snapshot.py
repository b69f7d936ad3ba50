"""Snapshots of a feature store: the outcome of every item, and the shards with the features.

    STORE/
      CURRENT                       the id of the current snapshot
      snapshots/<id>.parquet        one row per item; metadata: shards, fingerprint, format versions
      shards/shard-<n>-<hash>.arrow accepted shards, named after their content
      shards/shard-<n>.<attempt>    shards that are being written; they are never read
      pending/<plan>.parquet        accepted shards that are not part of a snapshot yet
      STOPPED.parquet               failures of a call that stopped because of them; not a snapshot
      LOCK                          lock of the process that writes

Readers rely on the snapshot alone and never list a folder. Every file appears atomically under its
name, so a store may be in a local folder or in an object store.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.shards import SHARD_FORMAT, ShardFile
from intertitle.pipeline.storage.failpoints import failpoint
from intertitle.pipeline.storage.format_version import FormatVersion
from intertitle.pipeline.storage.parquet import TEXT, read_table
from intertitle.pipeline.storage.paths import atomic_write

SNAPSHOT_FORMAT = FormatVersion("snapshot", 1)
# Metadata field for the version of the shards, which a tar cannot contain.
SHARD_VERSION_FIELD = "shard_format_version"
# Number of rows that are converted to Python objects at a time.
_PART = 10_000


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """The outcome of one item: stored in a shard, or quarantined.

    Attributes:
        key: key of the item.
        source: URI of the item's file.
        selection: kind of the item and, if it has one, its segment. The same file gives other
            features if it is read as another kind or segment.
        sha256: SHA-256 of the file's bytes, or None if they could not be read.
        size_bytes: size of the file, in bytes.
        mtime_ns: modification time of the file, in nanoseconds. If time and size are unchanged,
            the file is not hashed again.
        shard: name of the shard's file, or None for a quarantined item.
        row: row in the shard, from 0, or None for a quarantined item.
        num_frames: number of frames T.
        stage: stage that failed ("decode", "features"), or None for a stored item.
        error: class of the failure, or None for a stored item.
        message: one line that describes the failure.
        degraded: reason why only a part of the file could be read, or None if all of it was.
        traceback: traceback of an unexpected error, or None.
        file_missing: whether the file of a stored item did not exist when the store was last
            updated; its features stay.
    """

    key: str
    source: str
    selection: str
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
        pa.field("key", TEXT, nullable=False),
        pa.field("source", TEXT, nullable=False),
        pa.field("selection", TEXT, nullable=False),
        pa.field("sha256", TEXT),
        pa.field("size_bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("shard", TEXT),
        pa.field("row", pa.int64()),
        pa.field("num_frames", pa.int64()),
        pa.field("stage", TEXT),
        pa.field("error", TEXT),
        pa.field("message", TEXT),
        pa.field("degraded", TEXT),
        pa.field("traceback", TEXT),
        pa.field("file_missing", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable state of a store.

    Attributes:
        fingerprint: settings that the features were computed with.
        shards: files of the snapshot's shards by name.
        table: outcome of every item, in the order of the corpus, with the columns RECORD_SCHEMA.
            A million items take 300 MB as columns, but would take gigabytes as objects.
        versions: versions of the programs that computed the features, from `versions.made_by`:
            one entry per set of versions that took part, the newest last. They document where the
            features come from and are not part of the id: equal features that were computed on
            another machine are the same snapshot.
    """

    fingerprint: Fingerprint
    shards: dict[str, ShardFile]
    table: pa.Table
    versions: tuple[dict[str, str], ...] = ()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.table)

    def records(self) -> Iterator[ItemRecord]:
        """Iterate over the outcomes of all items."""
        return records_of(self.table)

    def id(self) -> str:
        """Return a hash of the content, without the times and paths of a particular machine."""
        digest = hashlib.sha256(self.fingerprint.to_json().encode())
        for name in sorted(self.shards):
            digest.update(f"{name} {self.shards[name].sha256}\n".encode())
        ended = self.table.select(["key", "selection", "sha256", "shard", "row", "stage", "error"])
        ended = ended.append_column("degraded", pc.is_valid(self.table["degraded"]))
        for at in range(0, len(ended), _PART):
            for column in ended.slice(at, _PART).columns:
                digest.update(repr(column.to_pylist()).encode())
        return digest.hexdigest()[:32]

    def quarantined(self) -> list[ItemRecord]:
        """Return the records of the items that have no features."""
        return list(records_of(self.table.filter(pc.is_null(self.table["shard"]))))

    def counts(self) -> Counter[str]:
        """Count the items by outcome.

        Returns:
            Numbers of items that are "stored" and "quarantined", and how many of the stored ones
            are "degraded" and how many have lost their file ("file_missing").
        """
        total = len(self.table)
        quarantined = self.table["shard"].null_count
        return Counter(
            stored=total - quarantined,
            degraded=total - self.table["degraded"].null_count,
            quarantined=quarantined,
            file_missing=pc.sum(self.table["file_missing"]).as_py() or 0,
        )


def table_of(records: Iterable[ItemRecord]) -> pa.Table:
    """Convert records to a table with the columns RECORD_SCHEMA."""
    # `asdict` makes deep copies, which is too slow for a million records.
    names = RECORD_SCHEMA.names
    rows = [{name: getattr(record, name) for name in names} for record in records]
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def records_of(table: pa.Table) -> Iterator[ItemRecord]:
    """Convert a table back to records, some rows at a time; the inverse of `table_of`."""
    for batch in table.to_batches(max_chunksize=_PART):
        for row in batch.to_pylist():
            yield ItemRecord(**row)


def write_snapshot(path: UPath, snapshot: Snapshot) -> None:
    """Write a snapshot and the time to a Parquet file, atomically."""
    metadata = {
        **SNAPSHOT_FORMAT.metadata(),
        **SHARD_FORMAT.metadata(SHARD_VERSION_FIELD),
        "fingerprint": snapshot.fingerprint.to_json(),
        "shards": json.dumps([asdict(snapshot.shards[name]) for name in sorted(snapshot.shards)]),
        "versions": json.dumps(snapshot.versions),
        "written": datetime.now(UTC).isoformat(),
    }
    table = snapshot.table.replace_schema_metadata(metadata)
    atomic_write(path, lambda file: pq.write_table(table, file))


def load_snapshot(path: UPath) -> Snapshot:
    """Read a file that `write_snapshot` wrote.

    Raises:
        UserError: the file is damaged, or it or its shards have another version of their format.
    """
    try:
        table = read_table(path)
        metadata = table.schema.metadata
        SNAPSHOT_FORMAT.check_metadata(path, metadata)
        SHARD_FORMAT.check_metadata(path, metadata, SHARD_VERSION_FIELD)
        fingerprint = Fingerprint.from_json(metadata[b"fingerprint"].decode())
        shards = [ShardFile(**shard) for shard in json.loads(metadata[b"shards"])]
        versions = tuple(json.loads(metadata[b"versions"]))
        table = table.replace_schema_metadata(None).cast(RECORD_SCHEMA)
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a readable snapshot: {error}") from error
    return Snapshot(fingerprint, {shard.name: shard for shard in shards}, table, versions)


def _stopped(store: UPath) -> UPath:
    return store / "STOPPED.parquet"


def write_stopped(store: UPath, failures: Snapshot) -> None:
    """Write the failures of a call that stopped because of them, as a snapshot of these items."""
    write_snapshot(_stopped(store), failures)


def read_stopped(store: UPath) -> Snapshot | None:
    """Read the failures that stopped the last call, or return None if it was not stopped."""
    file = _stopped(store)
    return load_snapshot(file) if file.is_file() else None


def forget_stopped(store: UPath) -> None:
    """Remove the failures of a stopped call, once a later call has finished."""
    _stopped(store).unlink(missing_ok=True)


def current_id(store: UPath) -> str | None:
    """Return the id of a store's current snapshot, or None if it has none."""
    pointer = store / "CURRENT"
    return pointer.read_text().strip() if pointer.exists() else None


def require_current_id(store: UPath) -> str:
    """Return the id of a store's current snapshot.

    Raises:
        UserError: there is no store, or it has no snapshot.
    """
    snapshot_id = current_id(store)
    if snapshot_id is None:
        raise UserError(
            f"{store}: not a feature store, or one that was never finished "
            "(`intertitle precompute` makes one)"
        )
    return snapshot_id


def current_snapshot(store: UPath) -> Snapshot | None:
    """Read a store's current snapshot, or return None if it has none."""
    snapshot_id = current_id(store)
    return None if snapshot_id is None else read_snapshot(store, snapshot_id)


def read_snapshot(store: UPath, snapshot_id: str) -> Snapshot:
    """Read the snapshot with a given id.

    Raises:
        UserError: the store has no snapshot with that id, or it is damaged.
    """
    file = store / "snapshots" / f"{snapshot_id}.parquet"
    if not file.is_file():
        raise UserError(f"{store}: has no snapshot {snapshot_id}")
    snapshot = load_snapshot(file)
    if snapshot.id() != snapshot_id:
        raise UserError(f"{file}: damaged: what it holds does not have the hash of its name")
    return snapshot


def publish(store: UPath, snapshot: Snapshot, check_held: Callable[[], None] = lambda: None) -> str:
    """Write a snapshot, make it the store's current one and return its id.

    Args:
        store: feature store.
        snapshot: new state of the store.
        check_held: callback that raises an error if this process no longer holds the store's lock;
            called just before the current snapshot is replaced.
    """
    name = snapshot.id()
    failpoint("before-snapshot")
    write_snapshot(store / "snapshots" / f"{name}.parquet", snapshot)
    failpoint("before-pointer")
    check_held()
    atomic_write(store / "CURRENT", lambda file: file.write(f"{name}\n".encode()))
    failpoint("after-pointer")
    return name
