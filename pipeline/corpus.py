"""Corpus of videos and images (items) and of the texts to learn (examples).

On disk, a corpus is a folder with `items.parquet` and `examples.parquet`. All tasks use the same
schema: an example of captioning has an item and reference captions, an example of translation a
source and a target, and so on. Features contain no text, so new captions require no new features.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import AnyPath, as_path, atomic_write, is_url

Kind = Literal["video", "image"]

TABLES = ("items.parquet", "examples.parquet")
# Name of the folder of pins in a corpus or a store; `feature_store.pins` describes them.
PINS = "pins"

ITEM_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
    ]
)
EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("item_key", pa.string()),
        pa.field("source", pa.string()),
        pa.field("targets", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Item:
    """One video, image, or segment of a video.

    Attributes:
        key: unique name in the corpus; any text.
        uri: path, absolute or relative to the corpus folder, or any URL that fsspec supports.
        kind: kind of the item, "video" or "image".
        start_s: start of the segment in seconds; None is the start of the video.
        end_s: end of the segment in seconds; None is the end of the video.
    """

    key: str
    uri: str
    kind: Kind
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One example for training or evaluating a model.

    Attributes:
        id: unique id in the corpus.
        split: name of the split: "train", "val", "test" or any other.
        item_key: key of the example's item, or None for a task without items.
        source: input text besides the item, such as a question or a sentence, or None.
        targets: reference output texts; captioning has several.
    """

    id: str
    split: str
    item_key: str | None
    source: str | None
    targets: tuple[str, ...]


# Control characters (Cc), line and paragraph separators (Zl, Zp), and surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Normalize a text so that it fits on one line of any file.

    Control characters and runs of white space become one space. A lone surrogate, which UTF-8
    cannot encode, becomes U+FFFD.
    """
    if _UNSAFE.search(text):
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        text = _UNSAFE.sub(" ", text)
    return " ".join(text.split())


_LANGUAGE = b"target_language"


def locate(corpus: UPath | str, item: Item) -> UPath:
    """Return the path of an item's file; a relative URI starts at the folder of the corpus."""
    return as_path(item.uri) if is_url(item.uri) else as_path(corpus) / item.uri


class Corpus:
    """A corpus on disk, opened for reading.

    Args:
        path: path or URL of the corpus folder.
        pin: name of a pin, whose copies of the tables are read; the items' files stay where they
            are. Without a pin, or if it does not exist any more, the current tables are read. To
            require certain tables, compare `fingerprint()`.

    Attributes:
        path: path or URL of the corpus folder.
        target_language: language code of the targets, such as `en`, as `name_target_language` wrote
            it; None if it was not set.

    Raises:
        UserError: the folder is not a corpus.
    """

    def __init__(self, path: AnyPath | str, pin: str | None = None) -> None:
        self.path = as_path(path)
        tables = self.path
        if pin and all((self.path / PINS / pin / name).is_file() for name in TABLES):
            tables = self.path / PINS / pin
        self._items_file, self._examples_file = (tables / name for name in TABLES)
        self.target_language: str | None = None
        for file, schema in (
            (self._items_file, ITEM_SCHEMA),
            (self._examples_file, EXAMPLE_SCHEMA),
        ):
            if not file.is_file():
                raise UserError(
                    f"{self.path}: not a corpus: {file.name} is missing "
                    "(`intertitle import` makes one)"
                )
            try:
                with file.open("rb") as opened:
                    file_schema = pq.read_schema(opened)
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(f"{file}: not a Parquet file: {error}") from error
            if file_schema.names != schema.names:
                raise UserError(f"{file}: columns {file_schema.names}, expected {schema.names}")
            if language := (file_schema.metadata or {}).get(_LANGUAGE):
                self.target_language = language.decode()

    def item_table(self) -> pa.Table:
        """Return a table of all items in the order of import; a million items take about 100 MB.

        Raises:
            UserError: the table was not written by `write_corpus` and violates its rules.
        """
        table = _read(self._items_file)
        _check_items(table, str(self._items_file))
        return table

    def items(self) -> list[Item]:
        """Return all items in the order of import; use `item_table` for large corpora."""
        return items_of(self.item_table())

    def examples(self, split: str | None = None) -> list[Example]:
        """Return the examples of one split, or all examples, in the order of import.

        Raises:
            UserError: the corpus has no such split.
        """
        table = _read(self._examples_file)
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
            if not len(table):
                raise UserError(
                    f"{self.path}: no examples of split {split!r}; it has {self.splits() or 'none'}"
                )
        return [Example(**{**row, "targets": tuple(row["targets"])}) for row in table.to_pylist()]

    def splits(self) -> list[str]:
        """Return the names of the splits, in order of first appearance."""
        return list(self.counts())

    def counts(self) -> dict[str, int]:
        """Return the number of examples of each split, in order of first appearance."""
        column = _read(self._examples_file, ["split"])["split"]
        return {str(n["values"]): n["counts"] for n in pc.value_counts(column).to_pylist()}

    def num_references(self) -> int:
        """Return the total number of targets of all examples."""
        targets = _read(self._examples_file, ["targets"])["targets"]
        return int(pc.sum(pc.list_value_length(targets)).as_py() or 0)

    def num_items(self) -> int:
        """Return the number of items."""
        with self._items_file.open("rb") as file:
            return int(pq.read_metadata(file).num_rows)

    def locate(self, item: Item) -> UPath:
        """Return the path of an item's file."""
        return locate(self.path, item)

    def fingerprint(self) -> str:
        """Return a hash of all rows, which is equal for equal corpora."""
        digest = hashlib.sha256()
        for path in (self._items_file, self._examples_file):
            with path.open("rb") as file:
                for batch in pq.ParquetFile(file).iter_batches():
                    for row in batch.to_pylist():
                        digest.update(repr(sorted(row.items())).encode())
        return digest.hexdigest()


def items_of(table: pa.Table) -> list[Item]:
    """Convert the rows of an item table to items."""
    return [Item(**row) for row in table.to_pylist()]


def write_corpus(path: AnyPath | str, items: Iterable[Item], examples: Iterable[Example]) -> Corpus:
    """Check and write a corpus.

    Texts are normalized with `clean_text`. Rows are streamed to disk, because there may be many.

    Args:
        path: path or URL of the corpus folder.
        items: items of the corpus.
        examples: examples of the corpus.

    Returns:
        The corpus that was written.

    Raises:
        UserError: a key or id is duplicate (the message names both rows), a key or URI is not valid
            Unicode, a kind is unknown, a segment ends before it starts, or an example names an
            unknown item or has no target or an empty one. Nothing is written in this case.
    """
    folder = as_path(path)
    with tempfile.TemporaryDirectory(prefix="intertitle-") as scratch:
        item_file, example_file = Path(scratch) / "items", Path(scratch) / "examples"
        _write_rows(item_file, map(_item_row, count(), items), ITEM_SCHEMA)
        _check_items(_read(item_file), "items")
        _write_rows(example_file, map(_example_row, count(), examples), EXAMPLE_SCHEMA)
        _check_examples(_read(example_file, ["id", "item_key"]), _read(item_file, ["key"])["key"])
        for file in (item_file, example_file):
            with file.open("rb") as written:
                atomic_write(folder / f"{file.name}.parquet", partial(_copy, written))
    return Corpus(folder)


def name_target_language(path: AnyPath | str, language: str) -> None:
    """Record the language of the targets in a corpus; its rows stay unchanged.

    Args:
        path: path or URL of the corpus folder.
        language: language code, such as `en`.
    """
    file = as_path(path) / "examples.parquet"
    with tempfile.TemporaryDirectory(prefix="intertitle-") as scratch:
        new_file = Path(scratch) / "examples"
        schema = EXAMPLE_SCHEMA.with_metadata({_LANGUAGE: language.encode()})
        with file.open("rb") as opened, pq.ParquetWriter(new_file, schema) as writer:
            for batch in pq.ParquetFile(opened).iter_batches():
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        with new_file.open("rb") as written:
            atomic_write(file, partial(_copy, written))


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    source.seek(0)
    shutil.copyfileobj(source, target)


def _read(file: AnyPath, columns: list[str] | None = None) -> pa.Table:
    with file.open("rb") as opened:
        return pq.read_table(opened, columns=columns)


def _write_rows(file: Path, rows: Iterator[dict[str, object]], schema: pa.Schema) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        while part := list(islice(rows, 20_000)):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))


def _item_row(row: int, item: Item) -> dict[str, object]:
    for name, text in (("key", item.key), ("uri", item.uri)):
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise UserError(f"items: row {row}: {name} {text!r} is not valid Unicode")
    return {
        "key": item.key,
        "uri": item.uri,
        "kind": item.kind,
        "start_s": item.start_s,
        "end_s": item.end_s,
    }


def _example_row(row: int, example: Example) -> dict[str, object]:
    targets = [clean_text(target) for target in example.targets]
    if not targets or not all(targets):
        raise UserError(
            f"examples: row {row} ({example.id!r}): needs at least one target, none of them "
            f"empty; got {list(example.targets)!r}"
        )
    source = None if example.source is None else clean_text(example.source)
    return {
        "id": example.id,
        "split": example.split,
        "item_key": example.item_key,
        "source": source,
        "targets": targets,
    }


def _check_items(table: pa.Table, where: str) -> None:
    _check_unique(table["key"], where, "key")
    kinds = get_args(Kind)
    row = _first(pc.invert(pc.is_in(table["kind"], value_set=pa.array(kinds))))
    if row is not None:
        raise UserError(
            f"{where}: row {row}: kind {table['kind'][row].as_py()!r}, allowed: {', '.join(kinds)}"
        )
    row = _first(pc.less_equal(table["end_s"], table["start_s"]))
    if row is not None:
        item = table.slice(row, 1).to_pylist()[0]
        raise UserError(
            f"{where}: row {row} ({item['key']!r}): end_s {item['end_s']} is not after "
            f"start_s {item['start_s']}"
        )


def _check_examples(table: pa.Table, keys: pa.ChunkedArray) -> None:
    _check_unique(table["id"], "examples", "id")
    unknown = pc.and_(
        pc.is_valid(table["item_key"]), pc.invert(pc.is_in(table["item_key"], value_set=keys))
    )
    row = _first(unknown)
    if row is not None:
        example = table.slice(row, 1).to_pylist()[0]
        raise UserError(
            f"examples: row {row} ({example['id']!r}): item_key {example['item_key']!r} "
            "is not among the items"
        )


def _check_unique(column: pa.ChunkedArray, where: str, name: str) -> None:
    first_seen = pc.index_in(column, value_set=column)
    row = _first(pc.less(first_seen, pa.array(np.arange(len(column), dtype=np.int32))))
    if row is not None:
        raise UserError(
            f"{where}: rows {first_seen[row].as_py()} and {row} share the {name} "
            f"{column[row].as_py()!r}; {name}s are unique"
        )


def _first(mask: pa.ChunkedArray) -> int | None:
    """Return the index of the first true value of a mask, or None; null is not true."""
    row = pc.index(mask, True).as_py()
    return None if row < 0 else int(row)
