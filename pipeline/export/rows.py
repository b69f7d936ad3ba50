"""The examples of a corpus with their items, and their numbers in COCO's formats."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from intertitle.pipeline.corpus import Corpus, Example, Item, examples_of, items_of

# Keys that contain COCO's number of an image, such as COCO_val2014_000000391895.jpg.
_COCO_NUMBER = re.compile(r"(?:COCO_[a-z]+\d{4}_)?(\d{1,18})(?:\.\w+)?")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns with the texts of an example.

    Attributes:
        source: name for the source text; None if there is none.
        target: name for a target.
    """

    source: str | None
    target: str


def columns_of(corpus: Corpus) -> Columns:
    """Return the names that other programs have for the texts of a corpus."""
    table = corpus.example_table()
    has_items = table["item_key"].null_count < len(table)
    if table["source"].null_count == len(table):
        return Columns(None, "caption" if has_items else "text")
    return Columns("question", "answer") if has_items else Columns("source", "target")


def iter_examples(corpus: Corpus) -> Iterator[tuple[Example, Item | None]]:
    """Iterate over the examples in their order, each with its item."""
    items = {item.key: item for item in items_of(corpus.item_table())}
    for example in examples_of(corpus.example_table()):
        yield example, None if example.item_key is None else items[example.item_key]


def coco_numbers(names: Sequence[str]) -> dict[str, int]:
    """Return the numbers of images or questions: those in their names, or else their positions.

    Args:
        names: keys of items or ids of examples, in the order of the corpus.
    """
    matches = [_COCO_NUMBER.fullmatch(name.rsplit("/", 1)[-1]) for name in names]
    numbers = [int(match[1]) for match in matches if match]
    if len(set(numbers)) < len(names):
        numbers = list(range(1, len(names) + 1))
    return dict(zip(names, numbers, strict=True))
