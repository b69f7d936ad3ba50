"""Splits of a table's rows: given by a column or a name, or drawn by file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.parsing import split_named

_NAME = re.compile(
    r"(?:^|[._\- /])(train|training|val|valid|validation|dev|test)(?=$|[._\- /])", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """Rule that draws the splits of files that have none.

    Attributes:
        val: share of the files in val, from 0 to 1.
        test: share of the files in test, from 0 to 1.
        seed: seed of the draw.
    """

    val: float = 0.1
    test: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, share in (("--val-share", self.val), ("--test-share", self.test)):
            if not 0 <= share < 1:
                raise UserError(f"{name}: {share}, allowed: 0 or more, below 1")
        if self.val + self.test >= 1:
            raise UserError(
                f"--val-share {self.val:g} --test-share {self.test:g}: nothing is left for train"
            )

    def describe(self) -> str:
        """Describe the rule in one line."""
        return (
            f"splits drawn with seed {self.seed}: {1 - self.val - self.test:.4g} train, "
            f"{self.val:g} val, {self.test:g} test"
        )

    def draw(self, groups: Iterable[str]) -> dict[str, str]:
        """Draw a split for each group of rows, such as those of one file.

        A group's split depends on its name and the seed alone, so that it stays when groups are
        added. Only a split that would get none of at least three groups gets one; fewer are train.
        """
        places = {group: self._place(group) for group in groups}
        ordered = sorted(places, key=lambda group: (places[group], group))
        if len(ordered) < 3:
            return dict.fromkeys(ordered, "train")
        num_val = sum(place < self.val for place in places.values())
        num_test = sum(place < self.val + self.test for place in places.values()) - num_val
        smallest_val, smallest_test = int(self.val > 0), int(self.test > 0)
        num_val, num_test = max(num_val, smallest_val), max(num_test, smallest_test)
        if num_val + num_test >= len(ordered):
            num_val, num_test = smallest_val, smallest_test
        num_train = len(ordered) - num_val - num_test
        names = ["val"] * num_val + ["test"] * num_test + ["train"] * num_train
        return dict(zip(ordered, names, strict=True))

    def _place(self, group: str) -> float:
        """Return a number from 0 to 1 that stands for a group."""
        digest = hashlib.sha256(f"{self.seed} {group}".encode("utf-8", "surrogatepass"))
        return int.from_bytes(digest.digest()[:8], "big") / 2**64


def split_in_name(name: str) -> str | None:
    """Return the split that a file or folder name such as `train-00000-of-00002` has, or None."""
    splits = {split_named(match) for match in _NAME.findall(name)}
    return splits.pop() if len(splits) == 1 else None


def splits_of_tables(names: Sequence[str]) -> list[str | None]:
    """Return the splits that the names of tables say, None where splits have to be drawn.

    If some tables are named after splits, the names of the others are splits, too. If all say
    train, none says anything.
    """
    stems = [PurePosixPath(name).stem for name in names]
    splits = [split_in_name(stem) for stem in stems]
    if not set(splits) - {None, "train"}:
        return [None] * len(names)
    return [split or stem for split, stem in zip(splits, stems, strict=True)]
