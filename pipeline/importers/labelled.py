"""Import labelled text from one file per split, named after the split.

SOURCE/train.tsv, val.tsv, test.tsv        label TAB text, or one such file

If the first line names a label and a text, it is a header that gives the order of the columns
(`label TAB text`, `sentence TAB label` as in GLUE's SST-2, `id TAB review TAB sentiment`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from intertitle.pipeline.corpus import Example, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.parsing import (
    check_caption,
    files_of,
    format_value,
    lines,
    split_named,
)
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.storage.paths import AnyPath

LABEL_NAMES = frozenset({"label", "labels", "class", "category", "sentiment", "polarity", "target"})
TEXT_NAMES = frozenset(
    {"text", "sentence", "review", "phrase", "question", "content", "comment", "tweet", "document"}
)
# Number of lines of a file in which labels are counted, so that memory does not grow with the file.
_NUM_COUNTED = 10_000
# Number of lines below which every line may have a different label.
_MIN_LINES = 20


@dataclass(frozen=True, slots=True)
class _Columns:
    """Positions of the label and the text in a line.

    Attributes:
        label, text: indices of their columns, from 0.
        num: number of columns, or None if the text is everything that follows the label.
    """

    label: int = 0
    text: int = 1
    num: int | None = None

    def cut(self, line: str) -> tuple[str, str] | None:
        """Return the label and the text of a line, or None if its number of columns differs."""
        if self.num is None:
            label, _, text = line.partition("\t")
            return label, text
        cells = line.split("\t")
        return (cells[self.label], cells[self.text]) if len(cells) == self.num else None


@dataclass(slots=True)
class _Counts:
    """Distinct labels and texts in the first lines of a file."""

    num: int = 0
    labels: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)

    def add(self, label: str, text: str) -> None:
        """Count the label and the text of a line."""
        if self.num < _NUM_COUNTED:
            self.num += 1
            self.labels.add(label)
            self.texts.add(text)

    def are_swapped(self) -> bool:
        """Return whether the labels seem to be texts.

        They do if there are more distinct labels than half of the lines, and more distinct labels
        than distinct texts.
        """
        return 2 * len(self.labels) > self.num and len(self.labels) > len(self.texts)


def import_labelled(source: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of texts, the sources, with their labels as targets.

    An example's id is `<stem of the file>:<line>`. Blank lines are ignored.

    Raises:
        UserError: there is no such file, a line can't be read, a label or text is empty, or most
            labels are distinct, so that they can't be labels.
    """
    return count_import(write_corpus(out, [], _read(files_of(source, ".tsv"))))


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
                    f"{where}: {format_value(line)}, expected {columns.num} columns as in the "
                    "header"
                )
            label, text = cells
            if not (check_caption(label, where) and check_caption(text, where)):
                raise UserError(f"{where}: {format_value(line)}, expected label TAB text")
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
    """Parse the first line of a file; return None if it is not a header."""
    names = [name.strip().lower() for name in line.split("\t")]
    at_label = [n for n, name in enumerate(names) if name in LABEL_NAMES]
    at_text = [n for n, name in enumerate(names) if name in TEXT_NAMES]
    if len(at_label) != 1 or len(at_text) != 1:
        return None
    label, text = at_label[0], at_text[0]
    # With exactly the columns label and text, in this order, a text may contain tabs.
    return (
        _Columns() if (label, text, len(names)) == (0, 1, 2) else _Columns(label, text, len(names))
    )


def _too_many(file: Path, labels: set[str], num: int) -> str:
    return (
        f"{file}: {len(labels):,} different labels in {num:,} lines, as "
        f"{format_value(min(labels))}; allowed: label TAB text with fewer labels than half of "
        "the lines, or a header that names the columns, as sentence TAB label"
    )


IMPORTER = Importer(
    "labelled",
    import_labelled,
    Sources.ONE,
    "FOLDER|FILE",
    "label TAB text, or as named in a header: sentence TAB label",
)
