"""Read arrays of features by key: from a folder, an archive, or a table."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError, is_text, one_line
from intertitle.pipeline.feature_store.external.keys import KeyedRows, key_column

HDF5_SUFFIXES = (".h5", ".hdf5", ".he5")
SYNTAX = "a folder of .npy files, .npy, .npz, .h5, .hdf5 or .parquet"
_BATCH = 1000
# What the readers of arrays and archives raise for damaged files.
_DAMAGED = (
    *(ValueError, TypeError, EOFError, OSError, MemoryError, RuntimeError, OverflowError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, slots=True)
class Unusable:
    """The reason why an item has no features.

    Attributes:
        error: class of the failure, as of a quarantined item.
        message: description in one line.
    """

    error: str
    message: str


Loaded = NDArray[Any] | Unusable
Arrays = Iterator[tuple[str, Loaded]]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options that say how the arrays of a source are found.

    Attributes:
        keys: file with the keys of the rows of one packed array; None if the arrays have names.
        array: name of the packed array in an archive, or of the column in a table; None for the
            only one, or for "features".
        scale: name of an array that packed values are multiplied by, or None.
        offset: name of an array that is added to the product, or None.
    """

    keys: Path | None = None
    array: str | None = None
    scale: str | None = None
    offset: str | None = None


def open_source(path: Path, options: SourceOptions) -> Callable[[], Arrays]:
    """Return a function that iterates over the arrays of a source, always in the same order.

    Args:
        path: folder or file.
        options: options of the source.

    Raises:
        UserError: there is no such source, it cannot be read, or an option does not fit it.
    """
    suffix = path.suffix.lower()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder, allowed: {SYNTAX}")
    if options.keys is not None:
        packed = _packed(path, options)
        rows = KeyedRows.read(options.keys, len(packed), f"{path}")
        return lambda: rows.split(packed)
    for flag in ("array", "scale", "offset"):
        value = getattr(options, flag)
        if value is not None and (flag != "array" or suffix != ".parquet"):
            raise UserError(f"--{flag} {value}: only with --keys")
    if path.is_dir():
        return lambda: _folder(path)
    if suffix == ".npz":
        _open_npz(path).close()
        return lambda: _archive(path, lambda: _open_npz(path))
    if suffix in HDF5_SUFFIXES:
        _open_hdf5(path).close()
        return lambda: _archive(path, lambda: _Hdf5(path))
    if suffix == ".parquet":
        columns = _parquet_columns(path, options.array)
        return lambda: _parquet(path, *columns)
    hint = " (of one array, with --keys)" if suffix == ".npy" else ""
    raise UserError(f"{path}: ending {path.suffix!r}{hint}, allowed: {SYNTAX}")


def _folder(folder: Path) -> Arrays:
    """Read each `.npy` file below a folder; its key is its path without the ending."""
    files = sorted(file for file in folder.rglob("*.npy") if file.is_file())
    if not files:
        raise UserError(f"{folder}: no .npy files in it, allowed: {SYNTAX}")
    for file in files:
        key = file.relative_to(folder).with_suffix("").as_posix()
        if not is_text(key):
            raise UserError(f"{one_line(str(file))!r}: a name that is not UTF-8")
        yield key, _load_npy(file)


def _load_npy(file: Path, *, mapped: bool = False) -> Loaded:
    try:
        values = np.load(file, "r" if mapped else None, allow_pickle=False)
    except _DAMAGED as error:
        return _unreadable(str(file), error)
    if not isinstance(values, np.ndarray):
        return Unusable("unreadable", f"{file}: an archive under the name of an array")
    return values


def _unreadable(where: str, error: Exception) -> Unusable:
    if "allow_pickle" in str(error):
        return Unusable("type", f"{where}: Python objects, which are never unpickled")
    return Unusable("unreadable", one_line(f"{where}: {error or type(error).__name__}"))


def _open_npz(path: Path) -> Any:
    try:
        archive = np.load(path, allow_pickle=False)
    except _DAMAGED as error:
        raise UserError(f"{path}: not an .npz archive: {one_line(str(error))}") from error
    if isinstance(archive, np.ndarray):
        raise UserError(f"{path}: a single array, allowed: an .npz archive, or --keys")
    return archive


def _archive(path: Path, opened: Callable[[], AbstractContextManager[Any]]) -> Arrays:
    """Read each array of an archive, whose name is its key."""
    with opened() as archive:
        for key in archive:
            yield key, _member(archive, key, path)


def _member(archive: Any, key: str, path: Path) -> Loaded:
    try:
        return np.asarray(archive[key])
    except _DAMAGED as error:
        return _unreadable(f"{path}: {key}", error)


def _open_hdf5(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError(f"{path}: HDF5 needs h5py (pip install 'intertitle[hdf5]')") from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file: {one_line(str(error))}") from error


class _Hdf5:
    """The datasets of an HDF5 file by their path, in the order of the paths."""

    def __init__(self, path: Path) -> None:
        self._file = _open_hdf5(path)

    def __enter__(self) -> _Hdf5:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        import h5py

        names: list[str] = []

        def visit(name: str, node: object) -> None:
            if isinstance(node, h5py.Dataset):
                names.append(name)

        self._file.visititems(visit)
        return iter(sorted(names))

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.asarray(self._file[name][()])


def _packed(path: Path, options: SourceOptions) -> NDArray[Any]:
    """Read the array that contains the rows of all items.

    Raises:
        UserError: there is no such array.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        values = _load_npy(path, mapped=True)
        if isinstance(values, Unusable):
            raise UserError(values.message)
        if options.array or options.scale or options.offset:
            raise UserError(f"{path}: one array without a name: no --array, --scale or --offset")
        return _with_rows(values, path)
    if suffix != ".npz" and suffix not in HDF5_SUFFIXES:
        raise UserError(f"--keys {options.keys}: only with .npy, .npz, .h5 or .hdf5, not {path}")
    with _open_npz(path) if suffix == ".npz" else _Hdf5(path) as archive:
        names = list(archive)
        name = options.array or (names[0] if len(names) == 1 else "features")
        values = _named(archive, names, name, "--array", path)
        for flag, extra in (("--scale", options.scale), ("--offset", options.offset)):
            if extra is not None:
                factor = _named(archive, names, extra, flag, path)
                try:
                    wide = values.astype(np.float32, copy=False)
                    values = wide * factor if flag == "--scale" else wide + factor
                except (ValueError, TypeError) as error:
                    message = f"{path}: {flag} {extra}: {factor.dtype} {factor.shape} does not fit"
                    raise UserError(f"{message} {name}, {values.dtype} {values.shape}") from error
    return _with_rows(values, path)


def _named(archive: Any, names: list[str], name: str, flag: str, path: Path) -> NDArray[Any]:
    if name not in names:
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise UserError(f"{path}: {flag}: no array {name!r}, allowed: {listed}")
    values = _member(archive, name, path)
    if isinstance(values, Unusable):
        raise UserError(values.message)
    return values


def _with_rows(values: NDArray[Any], path: Path) -> NDArray[Any]:
    if not values.ndim:
        raise UserError(f"{path}: a single number, allowed: an array with a row for each key")
    return values


def _parquet_columns(path: Path, array: str | None) -> tuple[str, str]:
    """Return the names of the columns with the keys and with the features."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a Parquet file: {one_line(str(error))}") from error
    lists = [f.name for f in schema if _is_list(f.type)]
    wanted_column = array or ("features" if "features" in lists or len(lists) != 1 else lists[0])
    if wanted_column not in lists:
        listed = ", ".join(lists) or "none in this file"
        raise UserError(
            f"{path}: no column {wanted_column!r} of lists, allowed for --array: {listed}"
        )
    texts = [f.name for f in schema if pa.types.is_string(f.type) or _is_long(f.type)]
    return key_column(texts, str(path)), wanted_column


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_fixed_size_list(kind) or types.is_large_list(kind))


def _is_long(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_integer(kind))


def _parquet(path: Path, key: str, features: str) -> Arrays:
    try:
        yield from _parquet_rows(path, key, features)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: can't be read further: {one_line(str(error))}") from error


def _parquet_rows(path: Path, key: str, features: str) -> Arrays:
    with pq.ParquetFile(path) as file:
        row = 0
        for batch in file.iter_batches(_BATCH, columns=[key, features]):
            for number, name in enumerate(batch[key].to_pylist()):
                if name is None:
                    raise UserError(f"{path}: row {row + number}: {key}: missing")
                yield str(name), _rows_of(batch[features][number], f"{path}: row {row + number}")
            row += len(batch)


def _rows_of(scalar: pa.Scalar, where: str) -> Loaded:
    """Convert nested lists of numbers, which must be equally long, to an array."""
    if not scalar.is_valid:
        return Unusable("missing", f"{where}: no features")
    values, sizes = scalar.values, [len(scalar.values)]
    while _is_list(values.type):
        lengths = set(values.value_lengths().to_pylist())
        if len(lengths) > 1 or None in lengths:
            return Unusable("shape", f"{where}: rows of different lengths")
        sizes.append(lengths.pop() if lengths else 0)
        values = values.flatten()
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        return Unusable("type", f"{where}: {values.type}, allowed: numbers")
    if values.null_count:
        return Unusable("not_finite", f"{where}: {values.null_count} missing values")
    return values.to_numpy(zero_copy_only=False).reshape(sizes)  # type: ignore[no-any-return]
