"""Random access by key to the features of one snapshot."""

from __future__ import annotations

from functools import cached_property
from itertools import chain
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.shards import (
    Format,
    ItemFeatures,
    ShardReader,
    file_sha256,
    open_shard,
)
from intertitle.pipeline.feature_store.snapshot import (
    ItemRecord,
    Snapshot,
    read_snapshot,
    records_of,
    require_current_id,
)
from intertitle.pipeline.storage.paths import AnyPath, as_path, cached, is_local


class KeyIndex:
    """Index that finds the row of a key.

    It takes 16 bytes per key, where a dictionary of strings would take about 200.

    Args:
        keys: unique keys in the order of the rows.
    """

    def __init__(self, keys: pa.ChunkedArray) -> None:
        self._keys = keys.combine_chunks()
        parts = pa.table([keys], ["key"]).to_batches(max_chunksize=10_000)
        texts = chain.from_iterable(part["key"].to_pylist() for part in parts)
        hashes = np.fromiter(map(hash, texts), np.int64, len(keys))
        self._rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._rows]

    def find(self, key: str) -> int | None:
        """Return the row of a key, or None."""
        key_hash = hash(key)
        at = int(self._hashes.searchsorted(key_hash))
        while at < len(self._hashes) and self._hashes[at] == key_hash:
            row = int(self._rows[at])
            if self._keys[row].as_py() == key:
                return row
            at += 1
        return None


class FeatureStore:
    """Reader that returns the features of one snapshot by key.

    A pickled store names its snapshot, which is read again when the copy is first used.

    Args:
        path: path or URL of the store.
        snapshot_id: id of the snapshot; None for the current one.

    Raises:
        UserError: there is no store at the path, or it has no snapshot.
    """

    def __init__(self, path: AnyPath | str, snapshot_id: str | None = None) -> None:
        self.path = as_path(path)
        self.snapshot_id = snapshot_id or require_current_id(self.path)
        self._open: dict[int, ShardReader] = {}
        # A missing or damaged snapshot is an error here already.
        _ = self.snapshot

    def __getstate__(self) -> dict[str, object]:
        # Another process may have another current folder.
        return {"path": self.path.absolute(), "snapshot_id": self.snapshot_id, "_open": {}}

    @cached_property
    def snapshot(self) -> Snapshot:
        """Snapshot that is read."""
        return read_snapshot(self.path, self.snapshot_id)

    @cached_property
    def _index(self) -> KeyIndex:
        return KeyIndex(self.snapshot.table["key"])

    @cached_property
    def _shards(self) -> tuple[list[str], NDArray[np.int64]]:
        """Names of the shards, and the index of each item's shard, -1 without one."""
        shards = self.snapshot.table["shard"].combine_chunks().dictionary_encode()
        return shards.dictionary.to_pylist(), _integers(shards.indices)

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return _integers(self.snapshot.table["row"])

    @cached_property
    def _num_frames(self) -> NDArray[np.int64]:
        return _integers(self.snapshot.table["num_frames"])

    def __contains__(self, key: str) -> bool:
        """Return whether the store has features of an item."""
        row = self._index.find(key)
        return row is not None and bool(self._shards[1][row] >= 0)

    def record(self, key: str) -> ItemRecord | None:
        """Return the outcome of an item, or None if the snapshot does not contain it."""
        row = self._index.find(key)
        if row is None:
            return None
        return next(records_of(self.snapshot.table.slice(row, 1)))

    def num_frames(self, key: str) -> int:
        """Return the number of frames T of an item.

        Raises:
            KeyError: the store has no features of the item.
        """
        return int(self._num_frames[self._stored(key)])

    def features(self, key: str) -> NDArray[np.float32]:
        """Return the features of an item, float32, as a read-only view of the mapped shard.

        Returns:
            Features, [T, D] or [T, cells, D].

        Raises:
            KeyError: the store has no features of the item.
            UserError: the item's shard is damaged.
        """
        return self.read(key).values

    def read(self, key: str) -> ItemFeatures:
        """Return the features of an item with the times of its frames; raises like `features`."""
        item = self._stored(key)
        names, shard_of = self._shards
        shard, row = int(shard_of[item]), int(self._rows[item])
        reader = self._open.get(shard)
        if reader is None:
            reader = self._open[shard] = self._verified(names[shard])
        features = reader.row(row)
        if features.key != key:
            raise UserError(
                f"{self.path}: {names[shard]} row {row} holds {features.key!r}, expected {key!r}"
            )
        return features

    def _stored(self, key: str) -> int:
        row = self._index.find(key)
        if row is None or self._shards[1][row] < 0:
            raise KeyError(key)
        return row

    def _verified(self, name: str) -> ShardReader:
        shard = self.snapshot.shards[name]
        path = self.path / "shards" / name
        try:
            file = cached(path, shard.sha256)
            is_intact = file_sha256(file) == shard.sha256
            if not is_intact and not is_local(path):
                # Perhaps only the cached copy is damaged.
                file.unlink()
                file = cached(path, shard.sha256)
                is_intact = file_sha256(file) == shard.sha256
        except FileNotFoundError as error:
            raise UserError(f"{path}: the snapshot names this shard, but it is missing") from error
        if not is_intact:
            raise UserError(
                f"{path}: checksum differs from the snapshot's: the shard is damaged; "
                "delete it and run `intertitle precompute` again"
            )
        return open_shard(file, cast(Format, self.snapshot.fingerprint.format))


def _integers(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Convert a column to integers; nulls become -1."""
    return np.asarray(pc.fill_null(column, -1)).astype(np.int64)
