"""Rows of CSV, TSV, JSON lines and Parquet files.

Only LF and CRLF end a line, so that a row with a lone CR, a form feed or U+2028 stays one row. A
quoted cell of a CSV file may have several lines. The separator of CSV is the one of `,`, `;`, tab
and `|` that its header has most of; cells that tabs separate have no quotes.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.parsing import format_value
from intertitle.pipeline.importers.text_lines import text_lines
from intertitle.pipeline.storage.parquet import open_parquet
from intertitle.pipeline.storage.paths import AnyPath, is_url

ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet")
# Maximum size of a line; a longer one is a damaged file.
MAX_LINE_BYTES = 1 << 26
_MAX_CELL = 1 << 20
_ADVICE = "; --encoding names another, such as latin-1"
# Number of rows of a file of JSON lines in which its columns are looked for.
_NUM_PEEKED = 1000


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table.

    Attributes:
        where: place of the row, for messages.
        id: unique id of the row in the import.
        cells: values by the names of the columns.
    """

    where: str
    id: str
    cells: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """A file with a table.

    Attributes:
        path: path or URL of the file, for messages.
        file: path of the file, or of its copy.
        prefix: beginning of the ids of its rows.
        encoding: encoding of a text file.
        header: names of the columns of a CSV or TSV file without a header; None to read them from
            its first line.
    """

    path: AnyPath
    file: AnyPath
    prefix: str
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Name of the file, without the query of a URL and the suffix `.gz`."""
        text = str(self.path)
        name = PurePosixPath(urlsplit(text).path if is_url(text) else text)
        return name.name.removesuffix(".gz")

    def columns(self) -> list[str]:
        """Return the names of the columns.

        Raises:
            UserError: the file is missing, can't be read, has no rows, or a name occurs twice.
        """
        names: list[str] = []
        if self._ending == ".parquet":
            with self._parquet() as file:
                for column in file.schema_arrow:
                    is_object = pa.types.is_struct(column.type)
                    fields = [f"{column.name}.{f.name}" for f in column.type] if is_object else []
                    names += [column.name, *fields]
        elif self._ending in (".jsonl", ".ndjson"):
            for number, row in enumerate(self._json_rows()):
                if number == _NUM_PEEKED:
                    break
                names += [name for name in row.cells if name not in names]
        else:
            names = list(self.header or self._header())
        if not names:
            raise UserError(f"{self.path}: has no rows")
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{self.path}: the column {name!r} occurs twice")
        return names

    def rows(self) -> Iterator[Row]:
        """Iterate over the rows; empty lines are ignored.

        Raises:
            UserError: a row can't be read, or has more or fewer cells than the header.
        """
        if self._ending == ".parquet":
            return self._parquet_rows()
        return self._json_rows() if self._ending in (".jsonl", ".ndjson") else self._text_rows()

    @property
    def _ending(self) -> str:
        ending = PurePosixPath(self.name).suffix.lower()
        if ending not in ENDINGS:
            raise UserError(
                f"{self.path}: ending {ending!r}, allowed: {' '.join(ENDINGS)}, text also with .gz"
            )
        return ending

    def _row(self, unit: str, number: int, cells: Mapping[str, Any]) -> Row:
        return Row(f"{self.path}: {unit} {number}", f"{self.prefix}:{number}", cells)

    def _lines(self) -> Iterator[tuple[int, str]]:
        where = str(self.path)
        with _opened(self.file, where) as stream:
            yield from text_lines(stream, where, self.encoding, MAX_LINE_BYTES, _ADVICE)

    def _json_rows(self) -> Iterator[Row]:
        for number, line in self._lines():
            if not line.strip():
                continue
            where = f"{self.path}: line {number}"
            try:
                values = json.loads(line)
            except RecursionError as error:
                raise UserError(f"{where}: not JSON: nested too deeply") from error
            except ValueError as error:
                # A number of too many digits is no JSONDecodeError.
                reason = getattr(error, "msg", "a number is too long")
                raise UserError(f"{where}: not JSON: {reason}: {format_value(line)}") from error
            if not isinstance(values, dict):
                raise UserError(f"{where}: {format_value(values)}, expected an object")
            yield self._row("line", number, flattened(values))

    def _parquet_rows(self) -> Iterator[Row]:
        number = 0
        with self._parquet() as file:
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield self._row("row", number, flattened(values))

    @contextmanager
    def _parquet(self) -> Iterator[pq.ParquetFile]:
        try:
            with open_parquet(self.file) as stream:
                yield pq.ParquetFile(stream)
        except FileNotFoundError as error:
            raise UserError(f"{self.path}: missing") from error
        except pa.ArrowException as error:
            raise UserError(f"{self.path}: not Parquet that can be read: {error}") from error

    def _text_rows(self) -> Iterator[Row]:
        names = self.columns()
        rows = self._cells()
        if self.header is None:
            next(rows)
        for number, cells in rows:
            if len(cells) != len(names):
                raise UserError(
                    f"{self.path}: line {number}: {len(cells)} cells, the header has {len(names)}: "
                    f"{format_value(list(cells))}{self._quote_advice(len(cells), len(names))}"
                )
            yield self._row("line", number, dict(zip(names, cells, strict=True)))

    def _quote_advice(self, num_cells: int, num_columns: int) -> str:
        quoted = self._ending != ".tsv" and num_cells > num_columns
        return "; a cell with the separator needs quotes" if quoted else ""

    def _cells(self) -> Iterator[tuple[int, Sequence[str]]]:
        """Iterate over the lines of CSV or TSV: number of the first line, from 1, and cells."""
        lines = self._lines()
        head = list(_until_text(lines))
        separators = "\t" if self._ending == ".tsv" else ",;\t|"
        first = head[-1][1] if head else ""
        delimiter = max(separators, key=first.count)
        if delimiter == "\t":
            for number, line in chain(head, lines):
                if line.strip():
                    yield number, line.split("\t")
            return
        # The csv module ends a row at a CR; texts are stored without control characters anyway.
        texts = (line.replace("\r", " ") + "\n" for _, line in chain(head, lines))
        with _cell_limit():
            yield from self._csv_cells(csv.reader(texts, delimiter=delimiter, strict=True))

    def _csv_cells(self, reader: Any) -> Iterator[tuple[int, Sequence[str]]]:
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reason = str(error)
                if "unexpected end" in reason:
                    reason = "a quoted cell has no end"
                if "field larger" in reason:
                    reason = f"a cell of over {_MAX_CELL:,} characters; a quote may have no end"
                raise UserError(f"{self.path}: line {number}: {reason}") from error
            if any(cells):
                yield number, cells

    def _header(self) -> list[str]:
        names = next(self._cells(), (0, ()))[1]
        return [name.strip() or f"column {n}" for n, name in enumerate(names, start=1)]


@contextmanager
def _cell_limit() -> Iterator[None]:
    """Allow cells of up to `_MAX_CELL` characters; the limit of the csv module is the process's."""
    before = csv.field_size_limit(_MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _until_text(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield numbered lines up to the first that is not blank."""
    for number, line in lines:
        yield number, line
        if line.strip():
            return


def flattened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return cells in which the fields of an object are columns of their own: `translation.en`."""
    cells: dict[str, Any] = {}
    for name, value in values.items():
        cells[name] = value
        if isinstance(value, dict):
            cells |= {f"{name}.{field}": inner for field, inner in value.items()}
    return cells


@contextmanager
def _opened(path: AnyPath, where: str) -> Iterator[BinaryIO]:
    """Open a file, uncompressed if its name ends in `.gz`."""
    try:
        with path.open("rb") as raw:
            if path.name.endswith(".gz"):
                with gzip.open(raw) as unpacked:
                    yield cast(BinaryIO, unpacked)
            else:
                yield raw
    except FileNotFoundError as error:
        raise UserError(f"{where}: missing") from error
    except IsADirectoryError as error:
        raise UserError(f"{where}: a folder, allowed: a file") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{where}: not gzip that can be read: {error}") from error
