"""Import aligned text in two languages: line n of one file translates line n of the other.

SOURCE/                                    files in the given languages, here en and de
  train.en  train.de  val.en  val.de  newstest2014.en  newstest2014.de
or
  SOURCE_FILE TARGET_FILE                  one pair of files

A file's name gives the split: `valid`, `validation` and `dev` mean val, and any other name, such as
newstest2014, is itself the name of a split. If one pair of files is given and the name of the
source file does not mean a split, the split is train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from intertitle.pipeline.corpus import Example, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import TARGET_LANGUAGE, Importer, Option, Sources
from intertitle.pipeline.importers.parsing import (
    MAX_WORDS,
    folder_of,
    is_blank,
    is_too_long,
    lines,
    split_named,
    valid_name,
)
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.importers.walk import is_hidden
from intertitle.pipeline.storage.paths import AnyPath


def import_parallel(
    sources: Sequence[Path],
    out: AnyPath,
    source_language: str | None = None,
    target_language: str | None = None,
) -> ImportReport:
    """Write a corpus of a pair of files, or of all pairs of a folder in two languages.

    Raises:
        UserError: the sources are neither, or can't be read.
    """
    if len(sources) == 2 and source_language is None:
        return import_parallel_files(sources[0], sources[1], out)
    if len(sources) == 1 and source_language and target_language:
        return import_parallel_folder(sources[0], out, source_language, target_language)
    raise UserError(
        "import parallel: takes SOURCE_FILE TARGET_FILE, or FOLDER with --source-language and "
        f"--target-language; got {' '.join(map(str, sources)) or 'no SOURCE'}"
    )


def import_parallel_files(source: Path, target: Path, out: AnyPath) -> ImportReport:
    """Write a corpus of one pair of files.

    Raises:
        UserError: a file is missing or can't be read, the files differ in their number of lines, or
            they have no usable pair of lines.
    """
    return _write(out, [_Pair(source, target, split_named(source.stem) or "train")])


def import_parallel_folder(
    folder: Path, out: AnyPath, source_language: str, target_language: str
) -> ImportReport:
    """Write a corpus of all pairs of files `<split>.<language>` in a folder.

    Raises:
        UserError: the folder has no such files, one file of a pair is missing or can't be read, the
            files of a pair differ in their number of lines, or no pair of lines is usable.
    """
    sources = _files_in(folder_of(folder), source_language)
    targets = _files_in(folder, target_language)
    stems = list(dict.fromkeys(file.stem for file in [*sources, *targets]))
    if not stems:
        raise UserError(
            f"{folder}: has no files that end in .{source_language} or .{target_language}"
        )
    pairs = [
        _Pair(
            folder / f"{stem}.{source_language}",
            folder / f"{stem}.{target_language}",
            split_named(stem) or stem,
        )
        for stem in stems
    ]
    return _write(out, pairs)


def _files_in(folder: Path, language: str) -> list[Path]:
    return sorted(file for file in folder.glob(f"*.{language}") if not is_hidden(file.name))


@dataclass(frozen=True, slots=True)
class _Pair:
    source: Path
    target: Path
    split: str


def _write(out: AnyPath, pairs: Sequence[_Pair]) -> ImportReport:
    for pair in pairs:
        counts = [sum(1 for _ in lines(file)) for file in (pair.source, pair.target)]
        valid_name(pair.source.stem, str(pair.source.parent))
        if counts[0] != counts[1]:
            raise UserError(
                f"{pair.source} has {counts[0]} lines, {pair.target} has {counts[1]}: "
                "aligned files have the same number"
            )
    notes: list[str] = []
    corpus = write_corpus(out, [], _read(pairs, notes))
    return count_import(corpus, notes=notes)


def _read(pairs: Sequence[_Pair], notes: list[str]) -> Iterator[Example]:
    """Read one example per line; its id is `<stem of the source file>:<line>`.

    A pair of lines is left out and counted if a side is empty or has more than MAX_WORDS words.
    Published data sets contain such pairs, where the aligner found no counterpart or took a table
    for a sentence. They are useless for training.
    """
    num_examples = 0
    for pair in pairs:
        num_left_out = 0
        both = zip(lines(pair.source), lines(pair.target), strict=True)
        for (number, source), (_, target) in both:
            if _is_usable(source) and _is_usable(target):
                num_examples += 1
                yield Example(f"{pair.source.stem}:{number}", pair.split, None, source, (target,))
            else:
                num_left_out += 1
        if num_left_out:
            notes.append(
                f"{pair.source.stem}: {num_left_out} pairs left out: a side is empty or has more "
                f"than {MAX_WORDS} words"
            )
    if not num_examples:
        raise UserError(f"{pairs[0].source}: has no pair of lines")


def _is_usable(text: str) -> bool:
    return not is_too_long(text) and not is_blank(text)


IMPORTER = Importer(
    "parallel",
    import_parallel,
    Sources.MANY,
    "FOLDER|FILE FILE",
    "two aligned files, or pairs like train.en train.de",
    options=(
        Option(
            "source_language",
            "Source language, such as en: suffix of the files to read in a FOLDER",
        ),
        TARGET_LANGUAGE,
    ),
    sentences=True,
)
