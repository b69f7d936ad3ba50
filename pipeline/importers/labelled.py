"""Labelled text: one file a split, named after it.

SOURCE/train.tsv, val.tsv, test.tsv        label TAB text, or one such file
                                           a first line that reads so is a header
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.corpus import Example, write_corpus
from pipeline.errors import UserError
from pipeline.importers.reading import files_of, lines, says_something, shown, split_named
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath

HEADER = "label\ttext"


def import_labelled(source: Path, out: AnyPath) -> ImportReport:
    """Make a corpus of texts, the sources, and their labels, the one target of each.

    An id is `<file's stem>:<line>`. Blank lines are no examples.

    Raises:
        UserError: there is no such file, a line can't be read, or a label or text is empty.
    """
    return report_import(write_corpus(out, [], _read(files_of(source, ".tsv"))))


def _read(files: Sequence[Path]) -> Iterator[Example]:
    num_examples = 0
    for file in files:
        split = split_named(file.stem) or file.stem
        for number, line in lines(file):
            if not line.strip() or (number == 1 and line.lower() == HEADER):
                continue
            where = f"{file}: line {number}"
            label, _, text = line.partition("\t")
            if not (says_something(label, where) and says_something(text, where)):
                raise UserError(f"{where}: {shown(line)}, expected label TAB text")
            num_examples += 1
            yield Example(f"{file.stem}:{number}", split, None, text, (label,))
    if not num_examples:
        raise UserError(f"{files[0]}: has no labelled text")
