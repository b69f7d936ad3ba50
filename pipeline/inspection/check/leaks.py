"""Duplicates that are in several splits, and the examples to leave out so that none is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa

from intertitle.pipeline.inspection.check.duplicates import Duplicate

# Splits whose examples stay, the first before the others: a test split is compared with published
# results, and a training split loses least.
_ORDER = ("test", "val", "valid", "validation", "dev")
_PART = 10_000


@dataclass(frozen=True, slots=True)
class Leak:
    """Duplicates that two splits share.

    Attributes:
        splits: names of the two splits; the examples of the first one stay.
        groups: number of groups of duplicates with members in both.
        examples: number of examples of each of the two splits in these groups.
    """

    splits: tuple[str, str]
    groups: int
    examples: tuple[int, int]


class Members:
    """The examples of items, and of texts, by split.

    Args:
        examples: table of examples.
    """

    def __init__(self, examples: pa.Table) -> None:
        # Ids of the examples of an item, or of an example without an item, by split.
        self.by_split: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._texts: dict[str, str] = {}
        self.duplicates: list[Duplicate] = []
        for part in examples.to_batches(max_chunksize=_PART):
            for row in part.to_pylist():
                name = row["item_key"] if row["item_key"] is not None else row["id"]
                self.by_split[name][row["split"]].append(row["id"])
                if row["item_key"] is None and row["source"] is not None:
                    self._add_text(row["id"], row["source"])
        for key, splits in self.by_split.items():
            if len(splits) > 1:
                self.duplicates.append(Duplicate("item", key, key))

    def _add_text(self, id: str, source: str) -> None:
        first = self._texts.setdefault(" ".join(source.casefold().split()), id)
        if first != id:
            self.duplicates.append(Duplicate("text", first, id))

    def splits(self, name: str) -> set[str]:
        """Return the splits of an item or text."""
        return set(self.by_split[name]) if name in self.by_split else set()

    def crosses(self, duplicate: Duplicate) -> bool:
        """Return whether a pair of duplicates is in more than one split."""
        first, second = self.splits(duplicate.first), self.splits(duplicate.second)
        return bool(first and second) and len(first | second) > 1


def groups_of(duplicates: Iterable[Duplicate]) -> list[list[str]]:
    """Return the connected groups of duplicates, each sorted."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for duplicate in duplicates:
        parent[root(duplicate.first)] = root(duplicate.second)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in parent:
        groups[root(name)].append(name)
    return sorted(sorted(group) for group in groups.values())


def precedence(split: str) -> tuple[int, str]:
    """Return the sort key of a split: splits to test on come first, and "train" last."""
    if split == "train":
        return len(_ORDER) + 1, split
    return (_ORDER.index(split) if split in _ORDER else len(_ORDER)), split


def find_leaks(members: Members, duplicates: Iterable[Duplicate]) -> tuple[list[Leak], set[str]]:
    """Find what splits share.

    Args:
        members: examples of items and texts.
        duplicates: all duplicates.

    Returns:
        The leaks of each pair of splits, and the ids of the examples to leave out: in each group,
        those of all splits but the first in `precedence`.
    """
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    left_out: set[str] = set()
    for group in groups_of(duplicates):
        ids: dict[str, list[str]] = defaultdict(list)
        for name in group:
            for split in members.splits(name):
                ids[split] += members.by_split[name][split]
        splits = sorted(ids, key=precedence)
        for pair in combinations(splits, 2):
            total = counts[pair]
            total[0] += 1
            total[1] += len(ids[pair[0]])
            total[2] += len(ids[pair[1]])
        for split in splits[1:]:
            left_out.update(ids[split])
    leaks = [
        Leak(pair, groups, (first, second)) for pair, (groups, first, second) in counts.items()
    ]
    leaks.sort(key=lambda leak: [precedence(split) for split in leak.splits])
    return leaks, left_out
