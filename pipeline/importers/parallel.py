"""Aligned text in two languages: line n of one file is the translation of line n of the other.

SOURCE/                                    with the languages named, here en and de
  train.en  train.de  val.en  val.de  newstest2014.en  newstest2014.de
or
  SOURCE_FILE TARGET_FILE                  one pair of files

A file's name gives the split: `valid`, `validation` and `dev` are val; another name, newstest2014
say, is itself a split. The split of one pair of files whose name says none is train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import Example, write_corpus
from pipeline.errors import UserError
from pipeline.importers.reading import (
    MAX_WORDS,
    folder_of,
    is_blank,
    is_too_long,
    lines,
    split_named,
    valid_name,
)
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath
from pipeline.walk import is_hidden


def import_parallel_files(source: Path, target: Path, out: AnyPath) -> ImportReport:
    """Make a corpus of one pair of files.

    Raises:
        UserError: a file is missing or can't be read, or they have not the same number of lines.
    """
    return _write(out, [_Pair(source, target, split_named(source.stem) or "train")])


def import_parallel_folder(
    folder: Path, out: AnyPath, source_language: str, target_language: str
) -> ImportReport:
    """Make a corpus of all pairs `<split>.<language>` of a folder.

    Raises:
        UserError: there are none, one half of a pair is missing, or as for a pair of files.
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
    return report_import(corpus, notes=notes)


def _read(pairs: Sequence[_Pair], notes: list[str]) -> Iterator[Example]:
    """One example a line; ids are `<file's stem>:<line>`.

    A line with a side that is empty or has more than MAX_WORDS words is left out and counted:
    published sets have some, where the aligner found no partner or took a table for a sentence,
    and they teach nothing.
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
