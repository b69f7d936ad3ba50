"""A corpus: what there is to look at (items) and what to learn from it (examples).

On disk it is a folder with `items.parquet` and `examples.parquet`. One schema serves every task:
captioning has an item and reference captions, translation a source and a target, and so on.
Features never hold text, so new captions never recompute a feature.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UserError

Kind = Literal["video", "image"]

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
        uri: a path, relative to the corpus folder or absolute.
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


def clean_text(text: str) -> str:
    """Make a sentence safe for one line of any file: control characters and runs of white space
    become one space, and what has no meaning in UTF-8 (a lone surrogate) becomes U+FFFD."""
    text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
    return " ".join(text.split())


class Corpus:
    """A corpus on disk, read-only.

    Raises:
        UserError: the folder is not a corpus.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._items_file = self.path / "items.parquet"
        self._examples_file = self.path / "examples.parquet"
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
                found = pq.read_schema(file)
            except (pa.ArrowInvalid, OSError) as error:
                raise UserError(f"{file}: not a Parquet file: {error}") from error
            if found.names != schema.names:
                raise UserError(f"{file}: columns {found.names}, expected {schema.names}")

    def items(self) -> list[Item]:
        """All items, in the order they were imported.

        Raises:
            UserError: the table was not written by `write_corpus` and breaks its rules.
        """
        items = [Item(**row) for row in pq.read_table(self._items_file).to_pylist()]
        _checked_items(items)
        return items

    def examples(self, split: str | None = None) -> list[Example]:
        """The examples of one split, or all, in the order they were imported.

        Raises:
            UserError: the corpus has no such split.
        """
        table = pq.read_table(self._examples_file)
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
            if not len(table):
                raise UserError(
                    f"{self.path}: no examples of split {split!r}; it has {self.splits() or 'none'}"
                )
        return [Example(**{**row, "targets": tuple(row["targets"])}) for row in table.to_pylist()]

    def splits(self) -> list[str]:
        """The names of the splits there are, in order of first appearance."""
        return list(dict.fromkeys(pq.read_table(self._examples_file)["split"].to_pylist()))

    def locate(self, item: Item) -> Path:
        """Where an item's file is on this machine."""
        return self.path / item.uri

    def fingerprint(self) -> str:
        """A hash of every row: equal for equal corpora."""
        digest = hashlib.sha256()
        for file in (self._items_file, self._examples_file):
            for batch in pq.ParquetFile(file).iter_batches():
                for row in batch.to_pylist():
                    digest.update(repr(sorted(row.items())).encode())
        return digest.hexdigest()


def write_corpus(path: Path | str, items: Iterable[Item], examples: Iterable[Example]) -> Corpus:
    """Check and write a corpus; text is cleaned on its way.

    Raises:
        UserError: a duplicate key or id (both rows are named), an unknown kind, a segment that ends
            before it starts, an example with no item, no target or an empty one.
    """
    item_list = list(items)
    example_list = list(_checked_examples(examples, _checked_items(item_list)))
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows, schema in (
        ("items.parquet", [asdict(i) for i in item_list], ITEM_SCHEMA),
        ("examples.parquet", [asdict(e) for e in example_list], EXAMPLE_SCHEMA),
    ):
        unfinished = folder / f".{name}.writing"
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), unfinished)
        unfinished.replace(folder / name)
    return Corpus(folder)


def _checked_items(items: list[Item]) -> set[str]:
    seen: dict[str, int] = {}
    for row, item in enumerate(items):
        if item.key in seen:
            raise UserError(
                f"items: rows {seen[item.key]} and {row} share the key {item.key!r}; "
                "keys are unique"
            )
        seen[item.key] = row
        for name, text in (("key", item.key), ("uri", item.uri)):
            if any("\ud800" <= c <= "\udfff" for c in text):
                raise UserError(f"items: row {row}: {name} {text!r} is not valid Unicode")
        if item.kind not in get_args(Kind):
            raise UserError(
                f"items: row {row}: kind {item.kind!r}, allowed: {', '.join(get_args(Kind))}"
            )
        if item.start_s is not None and item.end_s is not None and item.end_s <= item.start_s:
            raise UserError(
                f"items: row {row} ({item.key!r}): end_s {item.end_s} is not after "
                f"start_s {item.start_s}"
            )
    return set(seen)


def _checked_examples(examples: Iterable[Example], keys: set[str]) -> Iterator[Example]:
    seen: dict[str, int] = {}
    for row, example in enumerate(examples):
        if example.id in seen:
            raise UserError(
                f"examples: rows {seen[example.id]} and {row} share the id {example.id!r}; "
                "ids are unique"
            )
        seen[example.id] = row
        if example.item_key is not None and example.item_key not in keys:
            raise UserError(
                f"examples: row {row} ({example.id!r}): item_key {example.item_key!r} "
                "is not among the items"
            )
        targets = tuple(clean_text(t) for t in example.targets)
        if not targets or not all(targets):
            raise UserError(
                f"examples: row {row} ({example.id!r}): needs at least one target, none of them "
                f"empty; got {list(example.targets)!r}"
            )
        source = None if example.source is None else clean_text(example.source)
        yield Example(example.id, example.split, example.item_key, source, targets)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an importer saw.

    Attributes:
        corpus: the folder it wrote.
        items: number of items.
        examples: number of examples.
        references: number of targets of all examples.
        missing: files that the data set names and the disk has not.
        notes: what a person should know, a line each (a split left out, say).
    """

    corpus: str
    items: int
    examples: int
    references: int
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def report_import(
    corpus: Corpus, missing: Iterable[str] = (), notes: Iterable[str] = ()
) -> ImportReport:
    """Count what was written."""
    examples = corpus.examples()
    by_split = Counter(e.split for e in examples)
    counts = tuple(f"{split}: {n} examples" for split, n in by_split.items())
    return ImportReport(
        corpus=str(corpus.path),
        items=len(corpus.items()),
        examples=len(examples),
        references=sum(len(e.targets) for e in examples),
        missing=tuple(missing),
        notes=(*counts, *notes),
    )
