"""Texts of a corpus: the sources and targets that a task uses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from intertitle.pipeline.corpus import Corpus, Example, clean_text
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import AnyPath
from intertitle.training.data.task import Task

# The id of a line of text: its file and line number; the numbers of blank lines are missing.
_LINE_ID = re.compile(r"(?P<file>.*):(?P<line>\d{9})", re.DOTALL)


def texts_of(corpus: Corpus, split: str, task: Task) -> tuple[list[str], list[str] | None]:
    """Return the texts that vocabularies are built from.

    Returns:
        The targets of the split, and its sources, or None if the task has no source.

    Raises:
        UserError: a source is missing.
    """
    examples = corpus.examples(split)
    targets = [target for example in examples for target in targets_of(example, task)]
    if not task.has_source:
        return targets, None
    return targets, [source_of(example, corpus.path) for example in examples]


def lines_of(corpus: Corpus, split: str) -> Iterator[str]:
    """Yield all targets of a split in order, and "" for the blank lines of its files."""
    previous = None
    for example in corpus.examples(split):
        match = _LINE_ID.fullmatch(example.id)
        if match and previous and match["file"] == previous["file"]:
            yield from [""] * (int(match["line"]) - int(previous["line"]) - 1)
        previous = match
        yield from example.targets


def targets_of(example: Example, task: Task) -> tuple[str, ...]:
    """Return the targets of an example.

    If an example has several labels, its target is the most common one, or the first of the most
    common ones.
    """
    if task.output == "label":
        return (Counter(example.targets).most_common(1)[0][0],)
    return example.targets


def as_in_corpus(text: str) -> str:
    """Clean a text like the texts of a corpus: one line, with single spaces."""
    return clean_text(text)


def source_of(example: Example, corpus: AnyPath | str) -> str:
    """Return the source of an example.

    Raises:
        UserError: the example has no source.
    """
    if example.source is None:
        raise UserError(f"{corpus}: example {example.id!r} has no source to read")
    return example.source
