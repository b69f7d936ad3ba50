"""Import plain text for a language model: one example per line, in order.

SOURCE.txt                                 or any other single file
SOURCE/*.txt                               or a folder of such files

A file's name gives the split if it contains one (`train.txt`, `ptb.valid.txt`); other files are
train. If all files are train, the last tenth of the lines, in the order of the files' names, is
val.

An example's id is `<file>:<line, nine digits>`. Blank lines can't be targets and are left out, but
they count in the line numbers. A character model can therefore restore the text up to the last line
that is not blank: line n is the text of the example with number n, or empty if there is none.
Indentation and runs of spaces, which `clean_text` does not preserve, are lost; a note reports how
many lines changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from intertitle.pipeline.corpus import Example, clean_text, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.parsing import check_caption, files_of, lines, split_named
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.storage.paths import AnyPath


def import_text(source: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of lines of text.

    Raises:
        UserError: there is no such file, it contains no text, or a line can't be read.
    """
    files = files_of(source, ".txt")
    splits = [split_named(file.stem) or "train" for file in files]
    notes: list[str] = []
    num_train = _num_train(files, splits)
    if num_train is not None:
        notes.append("val: the last tenth of the lines, because no file is named after it")
    corpus = write_corpus(out, [], _read(files, splits, num_train, notes))
    return count_import(corpus, notes=notes)


def _num_train(files: Sequence[Path], splits: Sequence[str]) -> int | None:
    """Return the number of train lines if lines have to be split, otherwise None."""
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
            if not check_caption(line, f"{file}: line {number}"):
                continue
            split = named if num_train is None or num_before <= num_train else "val"
            num_examples += 1
            num_changed += clean_text(line) != line
            yield Example(f"{file.name}:{number:09}", split, None, None, (line,))
    if not num_examples:
        raise UserError(f"{files[0]}: has no text")
    if num_changed:
        notes.append(f"{num_changed} lines changed: spaces or control characters became one space")


IMPORTER = Importer(
    "text",
    import_text,
    Sources.ONE,
    "FOLDER|FILE",
    "each line is an example, for a language model",
)
