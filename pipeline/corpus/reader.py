"""Reading of a corpus."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from intertitle.pipeline.corpus.members import parse_member
from intertitle.pipeline.corpus.rules import check_items
from intertitle.pipeline.corpus.schema import (
    CORPUS_FORMAT,
    EXAMPLE_SCHEMA,
    ITEM_SCHEMA,
    LANGUAGE_FIELD,
    PINS,
    TABLES,
    Example,
    Item,
    examples_of,
    items_of,
)
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.parquet import open_parquet, read_table
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local, is_url


def locate(corpus: UPath | str, item: Item) -> UPath:
    """Return the path of an item's file, or of the file that it is a member of.

    A relative URI starts at the folder of the corpus.
    """
    member = parse_member(item.uri)
    uri = member.uri if member else item.uri
    return as_path(uri) if is_url(uri) else as_path(corpus) / uri


def absolute_uri(corpus: UPath | str, item: Item) -> str:
    """Return an item's URI in a form that does not depend on the folder of the corpus."""
    member = parse_member(item.uri)
    uri = member.uri if member else item.uri
    if not (is_url(uri) or uri.startswith("/")):
        path = locate(corpus, item)
        uri = str(path.absolute()) if is_local(path) else str(path)
    return replace(member, uri=uri).to_uri() if member else uri


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
        UserError: the folder is not a corpus, or one of another version.
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
            CORPUS_FORMAT.check_metadata(file, file_schema.metadata)
            if file_schema.names != schema.names:
                raise UserError(f"{file}: columns {file_schema.names}, expected {schema.names}")
            if language := file_schema.metadata.get(LANGUAGE_FIELD):
                self.target_language = language.decode()

    def __getstate__(self) -> dict[str, object]:
        # Another process may have another current folder.
        return {
            "path": self.path.absolute(),
            "_items_file": self._items_file.absolute(),
            "_examples_file": self._examples_file.absolute(),
            "target_language": self.target_language,
        }

    def item_table(self) -> pa.Table:
        """Return a table of all items in the order of import; a million items take about 100 MB.

        Raises:
            UserError: the table was not written by `write_corpus` and violates its rules.
        """
        table = read_table(self._items_file).cast(ITEM_SCHEMA)
        check_items(table, str(self._items_file))
        return table

    def items(self) -> list[Item]:
        """Return all items in the order of import; use `item_table` for large corpora."""
        return items_of(self.item_table())

    def examples(self, split: str | None = None) -> list[Example]:
        """Return the examples of one split, or all examples, in the order of import.

        Raises:
            UserError: the corpus has no such split.
        """
        return list(examples_of(self.example_table(split)))

    def example_table(self, split: str | None = None) -> pa.Table:
        """Return a table of the same examples; a million take about 100 MB.

        Raises:
            UserError: the corpus has no such split.
        """
        table = read_table(self._examples_file).cast(EXAMPLE_SCHEMA)
        if split is not None:
            table = table.filter(pc.equal(table["split"], split))
            if not len(table):
                raise UserError(
                    f"{self.path}: no examples of split {split!r}; it has {self.splits() or 'none'}"
                )
        return table

    def splits(self) -> list[str]:
        """Return the names of the splits, in order of first appearance."""
        return list(self.counts())

    def counts(self) -> dict[str, int]:
        """Return the number of examples of each split, in order of first appearance."""
        column = read_table(self._examples_file, ["split"])["split"]
        return {str(n["values"]): n["counts"] for n in pc.value_counts(column).to_pylist()}

    def num_references(self) -> int:
        """Return the total number of targets of all examples."""
        targets = read_table(self._examples_file, ["targets"])["targets"]
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
            with open_parquet(path) as file:
                for batch in pq.ParquetFile(file).iter_batches():
                    for row in batch.to_pylist():
                        digest.update(repr(sorted(row.items())).encode())
        return digest.hexdigest()
