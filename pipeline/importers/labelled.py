"""Labelled text: one file a split, named after it.

SOURCE/train.tsv, val.tsv, test.tsv        label TAB text, or one such file

A first line that names a label and a text is a header, and says which column is which (`label TAB
text`, `sentence TAB label` as GLUE's SST-2 is published, `id TAB review TAB sentiment`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.corpus import Example, write_corpus
from pipeline.errors import UserError
from pipeline.importers.reading import files_of, lines, says_something, shown, split_named
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath

LABEL_NAMES = frozenset({"label", "labels", "class", "category", "sentiment", "polarity", "target"})
TEXT_NAMES = frozenset(
    {"text", "sentence", "review", "phrase", "question", "content", "comment", "tweet", "document"}
)
# Labels are counted in so many lines of a file, so that memory does not grow with it.
_NUM_COUNTED = 10_000
# Of fewer lines each may have a label of its own.
_MIN_LINES = 20


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where a label and a text stand in a line.

    Attributes:
        label, text: their places.
        num: of columns; None: the text is all that follows the label.
    """

    label: int = 0
    text: int = 1
    num: int | None = None

    def cut(self, line: str) -> tuple[str, str] | None:
        """The label and the text of a line; None if it has another number of columns."""
        if self.num is None:
            label, _, text = line.partition("\t")
            return label, text
        cells = line.split("\t")
        return (cells[self.label], cells[self.text]) if len(cells) == self.num else None


@dataclass(slots=True)
class _Counts:
    """Different labels and texts of the first lines of a file."""

    num: int = 0
    labels: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)

    def add(self, label: str, text: str) -> None:
        """Count a line."""
        if self.num < _NUM_COUNTED:
            self.num += 1
            self.labels.add(label)
            self.texts.add(text)

    def are_swapped(self) -> bool:
        """Whether what stands for labels are texts: most differ, more than of the texts do."""
        return 2 * len(self.labels) > self.num and len(self.labels) > len(self.texts)


def import_labelled(source: Path, out: AnyPath) -> ImportReport:
    """Make a corpus of texts, the sources, and their labels, the one target of each.

    An id is `<file's stem>:<line>`. Blank lines are no examples.

    Raises:
        UserError: there is no such file, a line can't be read, a label or text is empty, or most
            labels differ, so that they are no labels.
    """
    return report_import(write_corpus(out, [], _read(files_of(source, ".tsv"))))


def _read(files: Sequence[Path]) -> Iterator[Example]:
    num_examples = num_lines = 0
    labels: set[str] = set()
    for file in files:
        split = split_named(file.stem) or file.stem
        columns, counts = _Columns(), _Counts()
        for number, line in lines(file):
            header = _header(line) if number == 1 else None
            columns = header or columns
            if header or not line.strip():
                continue
            where = f"{file}: line {number}"
            cells = columns.cut(line)
            if cells is None:
                raise UserError(
                    f"{where}: {shown(line)}, expected {columns.num} columns as in the header"
                )
            label, text = cells
            if not (says_something(label, where) and says_something(text, where)):
                raise UserError(f"{where}: {shown(line)}, expected label TAB text")
            counts.add(label, text)
            num_examples += 1
            yield Example(f"{file.stem}:{number}", split, None, text, (label,))
        if counts.are_swapped():
            raise UserError(_too_many(file, counts.labels, counts.num))
        labels |= counts.labels
        num_lines += counts.num
    if not num_examples:
        raise UserError(f"{files[0]}: has no labelled text")
    if num_lines >= _MIN_LINES and 2 * len(labels) > num_lines:
        raise UserError(_too_many(files[0], labels, num_lines))


def _header(line: str) -> _Columns | None:
    """What the first line says of the columns; None if it is no header."""
    names = [name.strip().lower() for name in line.split("\t")]
    at_label = [n for n, name in enumerate(names) if name in LABEL_NAMES]
    at_text = [n for n, name in enumerate(names) if name in TEXT_NAMES]
    if len(at_label) != 1 or len(at_text) != 1:
        return None
    label, text = at_label[0], at_text[0]
    # In the order of this format a text may hold tabs.
    return (
        _Columns() if (label, text, len(names)) == (0, 1, 2) else _Columns(label, text, len(names))
    )


def _too_many(file: Path, labels: set[str], num: int) -> str:
    return (
        f"{file}: {len(labels):,} different labels in {num:,} lines, as {shown(min(labels))}; "
        "allowed: label TAB text with fewer labels than half of the lines, or a header that names "
        "the columns, as sentence TAB label"
    )
