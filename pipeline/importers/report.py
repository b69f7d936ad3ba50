"""What an importer saw, for a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.corpus import Corpus


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an importer saw.

    Attributes:
        corpus: the folder it wrote.
        items: number of items.
        examples: number of examples.
        references: number of targets of all examples.
        missing: files that the data set names and the disk has not.
        notes: what a person should know, a line each (a split left out, say).
        left_out: number of files below a folder that became no items, by the reason.
    """

    corpus: str
    items: int
    examples: int
    references: int
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def report_import(
    corpus: Corpus,
    missing: Iterable[str] = (),
    notes: Iterable[str] = (),
    left_out: Mapping[str, int] | None = None,
) -> ImportReport:
    """Count what was written."""
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
