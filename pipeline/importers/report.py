"""Reports of imports, for the user."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from intertitle.pipeline.corpus import Corpus


@dataclass(frozen=True, slots=True)
class ImportReport:
    """Counts and messages of an import.

    Attributes:
        corpus: path or URL of the corpus.
        items: number of items.
        examples: number of examples.
        references: total number of targets of all examples.
        missing: names of items whose files the data set names but the disk lacks.
        notes: messages for the user, one line each, such as that a split was left out.
        left_out: number of files below a folder that did not become items, by reason.
    """

    corpus: str
    items: int
    examples: int
    references: int
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def count_import(
    corpus: Corpus,
    missing: Iterable[str] = (),
    notes: Iterable[str] = (),
    left_out: Mapping[str, int] | None = None,
) -> ImportReport:
    """Count the items, examples and targets of a corpus that was written.

    Args:
        corpus: corpus that was written.
        missing: names of items whose files are missing.
        notes: further messages for the user.
        left_out: number of files that did not become items, by reason.
    """
    counts = corpus.counts()
    return ImportReport(
        corpus=str(corpus.path),
        items=corpus.num_items(),
        examples=sum(counts.values()),
        references=corpus.num_references(),
        missing=tuple(missing),
        notes=(*(f"{split}: {n} examples" for split, n in counts.items()), *notes),
        left_out=dict(left_out or {}),
    )
