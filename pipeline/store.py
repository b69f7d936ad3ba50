"""A store of features: shards, snapshots that say which shards count, and one pointer.

    STORE/
      CURRENT                       the name of the snapshot that counts
      snapshots/<id>.parquet        a row for every item; the shards and the fingerprint as metadata
      shards/shard-<n>-<hash>.arrow accepted shards, named after their content
      shards/shard-<n>.<attempt>    being written; nobody reads it
      pending/<plan>.parquet        an accepted shard that no snapshot names yet

A reader trusts the snapshot alone and never lists a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.fingerprint import Fingerprint
from pipeline.shards import Format, ItemFeatures, ShardFile, ShardReader, file_sha256, open_shard


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
    ]
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of a store that readers can rely on.

    Attributes:
        fingerprint: what the features are made of.
        shards: the files that count, by name.
        records: how every item of the corpus ended, in the corpus' order.
    """

    fingerprint: Fingerprint
    shards: dict[str, ShardFile]
    records: tuple[ItemRecord, ...]

    def id(self) -> str:
        """A hash of what the snapshot says, without times and paths of one machine."""
        digest = hashlib.sha256(self.fingerprint.to_json().encode())
        for name in sorted(self.shards):
            digest.update(f"{name} {self.shards[name].sha256}\n".encode())
        for r in self.records:
            ended = (r.key, r.view, r.sha256, r.shard, r.row, r.stage, r.error)
            digest.update(repr(ended).encode())
        return digest.hexdigest()[:32]

    def quarantined(self) -> list[ItemRecord]:
        return [record for record in self.records if not record.is_stored]

    def counts(self) -> Counter[str]:
        """How many items are "stored" and "quarantined"."""
        return Counter("stored" if r.is_stored else "quarantined" for r in self.records)


def write_records(
    path: Path,
    fingerprint: Fingerprint,
    shards: Iterable[ShardFile],
    records: Iterable[ItemRecord],
) -> None:
    """Write a table of records with its shards and fingerprint: whole, or not at all."""
    metadata = {
        "fingerprint": fingerprint.to_json(),
        "shards": json.dumps([asdict(shard) for shard in shards]),
    }
    table = pa.Table.from_pylist([asdict(r) for r in records], schema=RECORD_SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    with unfinished.open("wb") as file:
        pq.write_table(table.replace_schema_metadata(metadata), file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def read_records(path: Path) -> Snapshot:
    """The inverse of `write_records`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        table = pq.read_table(path)
        metadata = table.schema.metadata
        fingerprint = Fingerprint(**json.loads(metadata[b"fingerprint"]))
        shards = [ShardFile(**shard) for shard in json.loads(metadata[b"shards"])]
        records = tuple(ItemRecord(**row) for row in table.to_pylist())
    except (pa.ArrowInvalid, OSError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a readable snapshot: {error}") from error
    return Snapshot(fingerprint, {shard.name: shard for shard in shards}, records)


def current_snapshot(store: Path) -> Snapshot | None:
    """The snapshot that a store's pointer names, or None for a store that has none yet."""
    pointer = store / "CURRENT"
    if not pointer.exists():
        return None
    return read_snapshot(store, pointer.read_text().strip())


def read_snapshot(store: Path, snapshot_id: str) -> Snapshot:
    """A snapshot by its id.

    Raises:
        UserError: the store has none of that id, or it is damaged.
    """
    file = store / "snapshots" / f"{snapshot_id}.parquet"
    if not file.is_file():
        raise UserError(f"{store}: has no snapshot {snapshot_id}")
    return read_records(file)


def publish(store: Path, snapshot: Snapshot) -> str:
    """Write a snapshot, then swap the pointer to it; returns its id."""
    name = snapshot.id()
    write_records(
        store / "snapshots" / f"{name}.parquet",
        snapshot.fingerprint,
        (snapshot.shards[shard] for shard in sorted(snapshot.shards)),
        snapshot.records,
    )
    unfinished = store / f".CURRENT.{os.getpid()}.writing"
    with unfinished.open("w") as file:
        file.write(f"{name}\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(store / "CURRENT")
    sync_folder(store)
    return name


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FeatureStore:
    """Features by key, read from one snapshot.

    Args:
        path: of the store.
        snapshot_id: of the snapshot; None is the current one.

    Raises:
        UserError: there is no store at the path, or it has no snapshot.
    """

    def __init__(self, path: Path | str, snapshot_id: str | None = None) -> None:
        self.path = Path(path)
        snapshot = (
            current_snapshot(self.path)
            if snapshot_id is None
            else read_snapshot(self.path, snapshot_id)
        )
        if snapshot is None:
            raise UserError(
                f"{self.path}: not a feature store, or one that was never finished "
                "(`intertitle precompute` makes one)"
            )
        self.snapshot = snapshot
        self.snapshot_id = snapshot.id()
        self._records = {record.key: record for record in snapshot.records}
        self._open: dict[str, ShardReader] = {}

    def __contains__(self, key: str) -> bool:
        record = self._records.get(key)
        return record is not None and record.is_stored

    def record(self, key: str) -> ItemRecord | None:
        """How an item ended, or None for one the store never saw."""
        return self._records.get(key)

    def features(self, key: str) -> NDArray[np.float32]:
        """The features of an item, [T, D]: a read-only view of the mapped shard.

        Raises:
            KeyError: the store has none for it.
            UserError: its shard is damaged.
        """
        return self.read(key).values

    def read(self, key: str) -> ItemFeatures:
        """The features of an item with their times; see `features`."""
        record = self._records[key]
        if record.shard is None:
            raise KeyError(key)
        reader = self._open.get(record.shard)
        if reader is None:
            reader = self._open[record.shard] = self._verified(self.snapshot.shards[record.shard])
        features = reader.row(cast(int, record.row))
        if features.key != key:
            raise UserError(
                f"{self.path}: {record.shard} row {record.row} holds {features.key!r}, "
                f"expected {key!r}"
            )
        return features

    def _verified(self, shard: ShardFile) -> ShardReader:
        path = self.path / "shards" / shard.name
        if not path.is_file():
            raise UserError(f"{path}: the snapshot names this shard, but it is missing")
        if path.stat().st_size != shard.num_bytes or file_sha256(path) != shard.sha256:
            raise UserError(
                f"{path}: checksum differs from the snapshot's: the shard is damaged; "
                "delete it and run `intertitle precompute` again"
            )
        return open_shard(path, cast(Format, self.snapshot.fingerprint.format))
