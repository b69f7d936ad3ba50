"""Write and read one shard of features, as an Arrow IPC file or a WebDataset tar.

Both are standard formats: pyarrow alone opens an Arrow shard, and the webdataset library a tar.
Equal rows give equal bytes. Readers map the file into memory and return views of it.

The schema of an Arrow shard has the version of the format in its metadata. A tar has no header, so
that the snapshot that names it has the version.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from intertitle.pipeline.storage.format_version import FormatVersion

Format = Literal["arrow", "webdataset"]
SHARD_FORMAT = FormatVersion("shard", 1)
SUFFIXES: dict[Format, str] = {"arrow": ".arrow", "webdataset": ".tar"}


@dataclass(frozen=True, slots=True)
class ItemFeatures:
    """The features of one item.

    Attributes:
        key: key of the item.
        times_s: presentation time of each frame, in seconds, float64, [T].
        values: features, float32, [T, *shape]: [T, D] if pooled, [T, cells, D] for a grid.
    """

    key: str
    times_s: NDArray[np.float64]
    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """Name, checksum and size of the file of a shard, as it was written.

    Attributes:
        name: name of the file.
        sha256: SHA-256 of the file's bytes.
        num_bytes: size of the file, in bytes.
        num_rows: number of items in the shard.
    """

    name: str
    sha256: str
    num_bytes: int
    num_rows: int


class ShardReader(Protocol):
    """Random access to the rows of one shard."""

    def row(self, index: int) -> ItemFeatures: ...


def write_shard(
    path: Path, format: Format, rows: Sequence[ItemFeatures], shape: tuple[int, ...]
) -> ShardFile:
    """Write rows to a new file and sync it to the disk.

    Args:
        path: path of the new file.
        format: format of the file.
        rows: features of the items, in the order of the file.
        shape: shape of one frame's features: (D,) or (cells, D).

    Raises:
        ValueError: features are not finite, or are not float32 [T, *shape].
    """
    for row in rows:
        expected = (len(row.times_s), *shape)
        if row.values.shape != expected or row.values.dtype != np.float32:
            raise ValueError(
                f"{row.key!r}: features are {row.values.dtype} {row.values.shape}, "
                f"expected float32 {expected}"
            )
        if not np.isfinite(row.values).all():
            raise ValueError(f"{row.key!r}: features are not finite")
    with path.open("xb") as file:
        try:
            if format == "arrow":
                _write_arrow(file, rows, shape)
            else:
                _write_tar(file, rows)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            # A partial shard, left on a full disk, would make the next attempt fail.
            path.unlink()
            raise
    return ShardFile(path.name, file_sha256(path), path.stat().st_size, len(rows))


def open_shard(path: Path, format: Format) -> ShardReader:
    """Map a shard into memory.

    Raises:
        UserError: an Arrow shard has another version; a tar does not contain its version.
    """
    return ArrowShard(path) if format == "arrow" else TarShard(path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrow_schema(shape: tuple[int, ...]) -> pa.Schema:
    """Return the schema of an Arrow shard: key, times_s [T], features [T, *shape]."""
    frame = pa.float32()
    for length in reversed(shape):
        frame = pa.list_(frame, length)
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("times_s", pa.list_(pa.float64()), nullable=False),
            pa.field("features", pa.list_(frame), nullable=False),
        ],
        SHARD_FORMAT.metadata(),
    )


def _write_arrow(
    file: io.BufferedWriter, rows: Sequence[ItemFeatures], shape: tuple[int, ...]
) -> None:
    offsets = np.cumsum([0, *(len(row.times_s) for row in rows)]).astype(np.int32)
    times = np.concatenate([row.times_s for row in rows]) if rows else np.zeros(0)
    values = np.concatenate([row.values for row in rows]) if rows else np.zeros((0, *shape), "f4")
    frames = pa.array(values.reshape(-1))
    for length in reversed(shape):
        frames = pa.FixedSizeListArray.from_arrays(frames, length)
    batch = pa.record_batch(
        [
            pa.array([row.key for row in rows], pa.string()),
            pa.ListArray.from_arrays(offsets, pa.array(times)),
            pa.ListArray.from_arrays(offsets, frames),
        ],
        schema=arrow_schema(shape),
    )
    with pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


class ArrowShard:
    """Reader of an Arrow IPC file; rows are views of the mapped file."""

    def __init__(self, path: Path) -> None:
        # Closed here: a thread of Arrow's may hold the file, and so its descriptor, for longer than
        # the reader lives. The arrays hold the mapping.
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            SHARD_FORMAT.check_metadata(path, reader.schema.metadata)
            batch = reader.get_batch(0)
        self._keys = batch.column(0)
        self._offsets = batch.column(1).offsets.to_numpy()
        self._times = batch.column(1).values.to_numpy()
        frames = batch.column(2).values
        shape = []
        while pa.types.is_fixed_size_list(frames.type):
            shape.append(frames.type.list_size)
            frames = frames.flatten()
        self._values = frames.to_numpy().reshape(-1, *shape)

    def row(self, index: int) -> ItemFeatures:
        span = slice(self._offsets[index], self._offsets[index + 1])
        return ItemFeatures(self._keys[index].as_py(), self._times[span], self._values[span])


# A member is named after its row, never after its key: keys may contain dots or slashes or differ
# only in case. WebDataset splits names at dots, and some file systems ignore case.
_FEATURES_MEMBER = "{:08d}.features.npy"
_ITEM_MEMBER = "{:08d}.item.json"


def _write_tar(file: io.BufferedWriter, rows: Sequence[ItemFeatures]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for index, row in enumerate(rows):
            array = io.BytesIO()
            # numpy would write a Fortran-ordered array in that order, but the readers, here and in
            # other libraries, expect C order.
            values = np.ascontiguousarray(row.values)
            np.lib.format.write_array(array, values, allow_pickle=False)
            item = json.dumps({"key": row.key, "times_s": row.times_s.tolist()})
            for name, data in (
                (_FEATURES_MEMBER.format(index), array.getvalue()),
                (_ITEM_MEMBER.format(index), item.encode()),
            ):
                # A new TarInfo has no owner and no time, so equal rows give equal bytes.
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


class TarShard:
    """Reader of a WebDataset tar; features are views of the mapped file.

    Names and headers are read once, when the shard is opened, so that reading a row is a list
    lookup.
    """

    def __init__(self, path: Path) -> None:
        # A mapping of the module `mmap` would hold a file descriptor for each open shard.
        with pa.memory_map(str(path)) as file:
            buffer = memoryview(file.read_buffer())
        with tarfile.open(path, "r:") as tar:
            spans = {m.name: slice(m.offset_data, m.offset_data + m.size) for m in tar if m.isreg()}
        self._rows: list[ItemFeatures] = []
        while (span := spans.get(_ITEM_MEMBER.format(len(self._rows)))) is not None:
            item = json.loads(bytes(buffer[span]))
            values = _array(buffer[spans[_FEATURES_MEMBER.format(len(self._rows))]])
            self._rows.append(ItemFeatures(item["key"], np.array(item["times_s"]), values))

    def row(self, index: int) -> ItemFeatures:
        return self._rows[index]


def _array(data: memoryview[int]) -> NDArray[np.float32]:
    """Return the array of a `.npy` file as a view of its bytes."""
    header = io.BytesIO(data[:256])
    np.lib.format.read_magic(header)
    shape, _, dtype = np.lib.format.read_array_header_1_0(header)
    values = np.frombuffer(data, dtype, offset=header.tell()).reshape(shape)
    return cast("NDArray[np.float32]", values)
