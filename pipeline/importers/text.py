"""Plain text, for a language model: one example a line, in order.

SOURCE.txt                                 or any one file
SOURCE/*.txt                               or a folder of them

A file's name gives the split where it says one (`train.txt`, `ptb.valid.txt`); all others are
train. Where that makes all of them train, the last tenth of the lines, in the order of the files'
names, is val.

An id is `<file>:<line, nine digits>`. Blank lines can't be targets and are left out, but they are
counted: the gaps in the line numbers are where they stood, so that a model of characters can put
back the text as it was, up to the last line that is not blank (`<text of line n>` at line n, "" in
a gap, joined by newlines). What `clean_text` does not keep, as indents and runs of spaces, is lost;
a note says how many lines it changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.corpus import Example, clean_text, write_corpus
from pipeline.errors import UserError
from pipeline.importers.reading import files_of, lines, says_something, split_named
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath


def import_text(source: Path, out: AnyPath) -> ImportReport:
    """Make a corpus of lines of text.

    Raises:
        UserError: there is no such file, it says nothing, or a line can't be read.
    """
    files = files_of(source, ".txt")
    splits = [split_named(file.stem) or "train" for file in files]
    notes: list[str] = []
    num_train = _num_train(files, splits)
    if num_train is not None:
        notes.append("val: the last tenth of the lines, because no file is named after it")
    corpus = write_corpus(out, [], _read(files, splits, num_train, notes))
    return report_import(corpus, notes=notes)


def _num_train(files: Sequence[Path], splits: Sequence[str]) -> int | None:
    """How many of the lines are train; None where the files' names say it all."""
    if set(splits) != {"train"}:
        return None
    num_lines = sum(1 for file in files for _ in lines(file))
    return num_lines - num_lines // 10 if num_lines >= 10 else None


def _read(
    files: Sequence[Path], splits: Sequence[str], num_train: int | None, notes: list[str]
) -> Iterator[Example]:
    num_examples = num_before = num_changed = 0
    for file, named in zip(files, splits, strict=True):
        for number, line in lines(file):
            num_before += 1
            if not says_something(line, f"{file}: line {number}"):
                continue
            split = named if num_train is None or num_before <= num_train else "val"
            num_examples += 1
            num_changed += clean_text(line) != line
            yield Example(f"{file.name}:{number:09}", split, None, None, (line,))
    if not num_examples:
        raise UserError(f"{files[0]}: has no text")
    if num_changed:
        notes.append(f"{num_changed} lines changed: spaces or control characters became one space")
