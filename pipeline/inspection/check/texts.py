"""Sizes, lengths and vocabulary of the examples of a corpus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A word, or a sign of punctuation. Languages that are written without spaces count characters.
_WORD = re.compile(r"\w+|[^\w\s]")
_CHARACTER = re.compile(r"\S")
_UNSPACED = ("zh", "ja", "th")
_PART = 10_000
NUM_WORDS = 20


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, middle and largest of some numbers.

    Attributes:
        min: minimum.
        median: median.
        p95: number that 95 % of the numbers do not exceed.
        max: maximum.
    """

    min: int
    median: float
    p95: float
    max: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread | None:
        """Summarise numbers; None if there are none."""
        if not len(values):
            return None
        p95 = float(np.quantile(values, 0.95))
        return cls(int(min(values)), float(np.median(values)), p95, int(max(values)))


@dataclass(frozen=True, slots=True)
class SplitTexts:
    """Texts of one split.

    Attributes:
        split: name of the split.
        examples: number of examples.
        items: number of items that they have.
        references: number of references of an example.
        target_words: number of words of a target.
        source_words: number of words of a source; None without sources.
        words: number of words of all targets.
        unseen_words: share of these words that occur in no target of the split "train"; None for
            "train" itself, or without it.
        unseen: commonest unseen words, with their numbers.
    """

    split: str
    examples: int
    items: int
    references: Spread | None
    target_words: Spread | None
    source_words: Spread | None
    words: int
    unseen_words: float | None
    unseen: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class FewReferences:
    """Examples that have fewer references than most.

    Attributes:
        usual: commonest number of references.
        examples: ids of the examples with fewer.
    """

    usual: int
    examples: tuple[str, ...]


def summarize_texts(examples: pa.Table, language: str | None) -> list[SplitTexts]:
    """Summarise the examples of every split.

    Args:
        examples: table of examples.
        language: language code of the targets, or None.
    """
    unspaced = (language or "").partition("-")[0] in _UNSPACED
    pattern = _CHARACTER if unspaced else _WORD
    vocabularies: dict[str, Counter[str]] = {}
    lengths: dict[str, list[int]] = {}
    for split in _splits(examples):
        counts = vocabularies[split] = Counter()
        lengths[split] = []
        for targets in _column(examples, split, "targets"):
            for target in targets:
                words = pattern.findall(target.casefold())
                counts.update(words)
                lengths[split].append(len(words))
    known = vocabularies.get("train")
    return [
        _summary(examples, split, vocabularies[split], lengths[split], known)
        for split in vocabularies
    ]


def _summary(
    examples: pa.Table,
    split: str,
    counts: Counter[str],
    lengths: list[int],
    known: Counter[str] | None,
) -> SplitTexts:
    rows = examples.filter(pc.equal(examples["split"], split))
    sources = [len(_WORD.findall(s)) for s in _column(examples, split, "source") if s is not None]
    unseen: Counter[str] = Counter()
    share = None
    if known is not None and split != "train":
        unseen = Counter({word: n for word, n in counts.items() if word not in known})
        share = unseen.total() / max(counts.total(), 1)
    return SplitTexts(
        split=split,
        examples=len(rows),
        items=pc.count_distinct(rows["item_key"]).as_py(),
        references=Spread.of(pc.list_value_length(rows["targets"]).to_pylist()),
        target_words=Spread.of(lengths),
        source_words=Spread.of(sources),
        words=counts.total(),
        unseen_words=share,
        unseen=tuple(unseen.most_common(NUM_WORDS)),
    )


def few_references(examples: pa.Table) -> FewReferences | None:
    """Find examples that lack references: most others have the same, larger number.

    Returns:
        The usual number and the examples; None if the numbers of references vary by themselves, as
        those of videos and of answers do.
    """
    numbers = Counter(pc.list_value_length(examples["targets"]).to_pylist())
    if not numbers:
        return None
    usual, times = numbers.most_common(1)[0]
    if times < 0.9 * len(examples):
        return None
    fewer = pc.less(pc.list_value_length(examples["targets"]), usual)
    return FewReferences(usual, tuple(examples.filter(fewer)["id"].to_pylist()))


def _splits(examples: pa.Table) -> list[str]:
    return pc.unique(examples["split"]).to_pylist()  # type: ignore[no-any-return]


def _column(examples: pa.Table, split: str, name: str) -> Iterator[Any]:
    chosen = examples.filter(pc.equal(examples["split"], split)).select([name])
    for part in chosen.to_batches(max_chunksize=_PART):
        yield from part[name].to_pylist()
