"""Writing of a corpus."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from intertitle.pipeline.corpus.reader import Corpus
from intertitle.pipeline.corpus.rules import check_examples, check_items
from intertitle.pipeline.corpus.schema import (
    EXAMPLE_SCHEMA,
    ITEM_SCHEMA,
    LANGUAGE_FIELD,
    Example,
    Item,
)
from intertitle.pipeline.corpus.text import clean_text
from intertitle.pipeline.errors import UserError, is_text
from intertitle.pipeline.storage.parquet import open_parquet, read_table
from intertitle.pipeline.storage.paths import AnyPath, as_path, atomic_write


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
        check_items(read_table(item_file), "items")
        _write_rows(example_file, map(_example_row, count(), examples), EXAMPLE_SCHEMA)
        check_examples(
            read_table(example_file, ["id", "item_key"]), read_table(item_file, ["key"])["key"]
        )
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
        metadata = {**EXAMPLE_SCHEMA.metadata, LANGUAGE_FIELD: language.encode()}
        schema = EXAMPLE_SCHEMA.with_metadata(metadata)
        with open_parquet(file) as opened, pq.ParquetWriter(new_file, schema) as writer:
            for batch in pq.ParquetFile(opened).iter_batches():
                writer.write_batch(batch.replace_schema_metadata(metadata))
        with new_file.open("rb") as written:
            atomic_write(file, partial(_copy, written))


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    source.seek(0)
    shutil.copyfileobj(source, target)


def _write_rows(file: Path, rows: Iterator[dict[str, object]], schema: pa.Schema) -> None:
    with pq.ParquetWriter(file, schema) as writer:
        while part := list(islice(rows, 20_000)):
            writer.write_table(pa.Table.from_pylist(part, schema=schema))


def _item_row(row: int, item: Item) -> dict[str, object]:
    for name, text in (("key", item.key), ("uri", item.uri)):
        if not is_text(text):
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
