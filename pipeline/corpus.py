"""A corpus: what there is to look at (items) and what to learn from it (examples).

On disk it is a folder with `items.parquet` and `examples.parquet`. One schema serves every task:
captioning has an item and reference captions, translation a source and a target, and so on.
Features never hold text, so new captions never recompute a feature.
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

from pipeline.errors import UserError
from pipeline.location import AnyPath, is_url, location, write_whole

Kind = Literal["video", "image"]

TABLES = ("items.parquet", "examples.parquet")
# The folder of a corpus, or of a store, in which what is pinned lies: see `pipeline.pins`.
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
        key: unique name inside the corpus; any text.
        uri: a path, relative to the corpus folder or absolute, or any URL that fsspec knows.
        kind: "video" or "image".
        start_s: where a segment begins, in seconds; None is the beginning.
        end_s: where a segment ends, in seconds; None is the end.
    """

    key: str
    uri: str
    kind: Kind
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One thing a model learns from or is measured on.

    Attributes:
        id: unique inside the corpus.
        split: "train", "val", "test" or any other name.
        item_key: the item it is about, or None for a task on text alone.
        source: what the model reads besides the item (a question, a sentence), or None.
        targets: what it should say; captioning has several references.
    """

    id: str
    split: str
    item_key: str | None
    source: str | None
    targets: tuple[str, ...]


# Control characters (Cc), line and paragraph separators (Zl, Zp), and surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Make a sentence safe for one line of any file: control characters and runs of white space
    become one space, and what has no meaning in UTF-8 (a lone surrogate) becomes U+FFFD."""
    if _UNSAFE.search(text):
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        text = _UNSAFE.sub(" ", text)
    return " ".join(text.split())


_LANGUAGE = b"target_language"


def locate(corpus: UPath | str, item: Item) -> UPath:
    """Where an item's file is: its uri, from the corpus' folder on."""
    return location(item.uri) if is_url(item.uri) else location(corpus) / item.uri


class Corpus:
    """A corpus on disk, read-only.

    Args:
        path: of the folder, or its URL.
        pin: the name of a pin: the tables are those that it keeps, the items' files stay where
            they are. Without one, or where it is gone, they are as they are now: who needs those of
            a fingerprint compares it.

    Attributes:
        path: as given.
        target_language: a code as `en`, from `name_target_language`; None where it was not named.

    Raises:
        UserError: the folder is not a corpus.
    """

    def __init__(self, path: AnyPath | str, pin: str | None = None) -> None:
        self.path = location(path)
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
                    found = pq.read_schema(opened)
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(f"{file}: not a Parquet file: {error}") from error
            if found.names != schema.names:
                raise UserError(f"{file}: columns {found.names}, expected {schema.names}")
            if language := (found.metadata or {}).get(_LANGUAGE):
                self.target_language = language.decode()

    def item_table(self) -> pa.Table:
        """All items in the order they were imported, as columns: a million take 100 MB or so.

        Raises:
            UserError: the table was not written by `write_corpus` and breaks its rules.
        """
        table = _read(self._items_file)
        _check_items(table, str(self._items_file))
        return table

    def items(self) -> list[Item]:
        """All items, in the order they were imported; see `item_table` for large corpora."""
        return items_of(self.item_table())

    def examples(self, split: str | None = None) -> list[Example]:
        """The examples of one split, or all, in the order they were imported.

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
        """The names of the splits there are, in order of first appearance."""
        return list(self.counts())

    def counts(self) -> dict[str, int]:
        """How many examples each split has, in order of first appearance."""
        column = _read(self._examples_file, ["split"])["split"]
        return {str(n["values"]): n["counts"] for n in pc.value_counts(column).to_pylist()}

    def num_references(self) -> int:
        """How many targets all examples have."""
        targets = _read(self._examples_file, ["targets"])["targets"]
        return int(pc.sum(pc.list_value_length(targets)).as_py() or 0)

    def num_items(self) -> int:
        """How many items there are."""
        with self._items_file.open("rb") as file:
            return int(pq.read_metadata(file).num_rows)

    def locate(self, item: Item) -> UPath:
        """Where an item's file is."""
        return locate(self.path, item)

    def fingerprint(self) -> str:
        """A hash of every row: equal for equal corpora."""
        digest = hashlib.sha256()
        for path in (self._items_file, self._examples_file):
            with path.open("rb") as file:
                for batch in pq.ParquetFile(file).iter_batches():
                    for row in batch.to_pylist():
                        digest.update(repr(sorted(row.items())).encode())
        return digest.hexdigest()


def items_of(table: pa.Table) -> list[Item]:
    """Rows of an item table."""
    return [Item(**row) for row in table.to_pylist()]


def write_corpus(path: AnyPath | str, items: Iterable[Item], examples: Iterable[Example]) -> Corpus:
    """Check and write a corpus; text is cleaned on its way. Rows are not held: they may be many.

    Raises:
        UserError: a duplicate key or id (both rows are named), an unknown kind, a segment that ends
            before it starts, an example with no item, no target or an empty one. Nothing is written
            then.
    """
    folder = location(path)
    with tempfile.TemporaryDirectory(prefix="intertitle-") as scratch:
        item_file, example_file = Path(scratch) / "items", Path(scratch) / "examples"
        _write_rows(item_file, map(_item_row, count(), items), ITEM_SCHEMA)
        _check_items(_read(item_file), "items")
        _write_rows(example_file, map(_example_row, count(), examples), EXAMPLE_SCHEMA)
        _check_examples(_read(example_file, ["id", "item_key"]), _read(item_file, ["key"])["key"])
        for file in (item_file, example_file):
            with file.open("rb") as written:
                write_whole(folder / f"{file.name}.parquet", partial(_copy, written))
    return Corpus(folder)


def name_target_language(path: AnyPath | str, language: str) -> None:
    """Note in a corpus what language its targets are in; its rows stay as they are.

    Args:
        path: of the corpus.
        language: its code.
    """
    file = location(path) / "examples.parquet"
    with tempfile.TemporaryDirectory(prefix="intertitle-") as scratch:
        noted = Path(scratch) / "examples"
        schema = EXAMPLE_SCHEMA.with_metadata({_LANGUAGE: language.encode()})
        with file.open("rb") as opened, pq.ParquetWriter(noted, schema) as writer:
            for batch in pq.ParquetFile(opened).iter_batches():
                writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        with noted.open("rb") as written:
            write_whole(file, partial(_copy, written))


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
    """Where a mask is true first; null is not true."""
    row = pc.index(mask, True).as_py()
    return None if row < 0 else int(row)
