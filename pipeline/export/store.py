"""Write the features of a store as one Parquet file or as WebDataset tars."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.export.output import Exported, check_new
from intertitle.pipeline.feature_store.shards import ItemFeatures, write_shard
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import as_path, atomic_folder, atomic_write

STORE_FORMATS = ("parquet", "webdataset")
# Number of items of a tar, or of a row group.
_ITEMS = 256


def export_store(store: FeatureStore, format: str, out: Path) -> Exported:
    """Write the features of all stored items in another format.

    Args:
        store: feature store.
        format: "parquet" for a file with the columns key, times_s and features, or "webdataset" for
            a folder of tars.
        out: new file or folder.

    Raises:
        UserError: the format is not known, or `out` exists.
    """
    if format not in STORE_FORMATS:
        raise UserError(f"--to {format}: allowed for a store: {', '.join(STORE_FORMATS)}")
    check_new(out)
    if format == "parquet":
        num_rows = 0

        def write(file: BinaryIO) -> None:
            nonlocal num_rows
            # A retry writes all rows again.
            num_rows = _write_parquet(file, store)

        atomic_write(as_path(out), write)
        return Exported(rows=num_rows)
    exported = Exported()
    with atomic_folder(out) as folder:
        for number, part in enumerate(_parts(store)):
            shape = store.snapshot.fingerprint.shape
            write_shard(folder / f"features-{number:05d}.tar", "webdataset", part, shape)
            exported.rows += len(part)
    return exported


def _parts(store: FeatureStore) -> Iterator[list[ItemFeatures]]:
    rows = (store.read(record.key) for record in store.snapshot.records() if record.is_stored)
    while part := list(islice(rows, _ITEMS)):
        yield part


def _write_parquet(file: BinaryIO, store: FeatureStore) -> int:
    """Write all features of a store; return the number of rows."""
    num_rows = 0
    fingerprint = store.snapshot.fingerprint
    row_type = pa.float32()
    for _ in (*fingerprint.shape, "frames"):
        row_type = pa.list_(row_type)
    schema = pa.schema(
        [("key", pa.string()), ("times_s", pa.list_(pa.float64())), ("features", row_type)],
        {"fingerprint": fingerprint.to_json()},
    )
    with pq.ParquetWriter(file, schema) as writer:
        for part in _parts(store):
            values = pa.array(np.concatenate([row.values for row in part]).reshape(-1))
            for length in reversed(fingerprint.shape):
                offsets = np.arange(0, len(values) + 1, length, dtype=np.int32)
                values = pa.ListArray.from_arrays(offsets, values)
            ends = np.cumsum([0, *(len(row.values) for row in part)]).astype(np.int32)
            times = pa.array(np.concatenate([row.times_s for row in part]))
            columns = [
                pa.array([row.key for row in part]),
                pa.ListArray.from_arrays(ends, times),
                pa.ListArray.from_arrays(ends, values),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            num_rows += len(part)
    return num_rows
