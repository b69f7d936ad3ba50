"""Where a training's data lies and what it is, and the texts that its vocabularies are built from.

This module and `dataset` are the only ones of the training that touch the pipeline.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Example
from pipeline.errors import UserError
from pipeline.files import features_of_file
from pipeline.location import AnyPath
from pipeline.store import FeatureStore
from training.data.task import Sees, Task

# The id of a line of text: its file and its number; blank lines are the numbers that are missing.
_LINE_ID = re.compile(r"(?P<file>.*):(?P<line>\d{9})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Where features lie and what they are.

    Attributes:
        path: of the store.
        snapshot: of the store.
        fingerprint: what the features are made of, as JSON.
        dim: D.
    """

    path: str
    snapshot: str
    fingerprint: str
    dim: int


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where a training's data lies and what it is.

    Attributes:
        corpus: the folder.
        corpus_fingerprint: of every row of it.
        features: of its items; None for a task on text alone.
    """

    corpus: str
    corpus_fingerprint: str
    features: FeatureSource | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataSource:
        """The inverse of `dataclasses.asdict`."""
        features = values["features"]
        return cls(**{**values, "features": features and FeatureSource(**features)})

    @property
    def feature_dim(self) -> int:
        """D; 0 where nothing is seen."""
        return self.features.dim if self.features else 0


def describe_data(corpus: AnyPath | str, features: AnyPath | str | None, sees: Sees) -> DataSource:
    """Look at a corpus and, for a task that sees, at a store.

    Raises:
        UserError: one of them is not what it should be, or is missing or not wanted.
    """
    if sees == "nothing" and features is not None:
        raise UserError(f"--features {features}: this recipe reads text alone")
    if sees != "nothing" and features is None:
        raise UserError(f"--features: missing; this recipe sees {sees} features")
    seen = None if features is None else _describe_features(features, sees)
    source = Corpus(corpus)
    return DataSource(str(source.path.absolute()), source.fingerprint(), seen)


def _describe_features(features: AnyPath | str, sees: Sees) -> FeatureSource:
    store = FeatureStore(features)
    found = store.snapshot.fingerprint
    if found.features != sees:
        raise UserError(
            f"{store.path}: {found.features} features, this recipe sees {sees} ones "
            f"(`intertitle precompute --features {sees}`)"
        )
    return FeatureSource(
        str(store.path.absolute()), store.snapshot_id, found.features_json(), found.dim
    )


def check_unchanged(data: DataSource) -> None:
    """Make sure that a corpus and a store are still what they were when a run began.

    Raises:
        UserError: one of them has changed.
    """
    corpus = Corpus(data.corpus).fingerprint()
    facts = [("corpus_fingerprint", data.corpus_fingerprint, corpus)]
    if data.features:
        store = FeatureStore(data.features.path)
        make = store.snapshot.fingerprint.features_json()
        facts += [
            ("snapshot", data.features.snapshot, store.snapshot_id),
            ("features_fingerprint", data.features.fingerprint, make),
        ]
    for name, was, found in facts:
        if was != found:
            raise UserError(
                f"{name} was {was} when the run began and is {found}; "
                "a training goes on with the data it began with"
            )


def feature_maker(source: FeatureSource) -> Callable[[Path], NDArray[np.float32]]:
    """A function that makes features for a new file as those of a training were made: [T, D].

    Raises:
        UserError: they can't be made so on this machine; the function: the file can't be decoded.
    """
    return features_of_file(source.fingerprint)


def texts_of(corpus: AnyPath | str, split: str, task: Task) -> tuple[list[str], list[str] | None]:
    """The targets of a split, and the sources where a task reads: what vocabularies are built from.

    Raises:
        UserError: a source is missing.
    """
    examples = Corpus(corpus).examples(split)
    targets = [target for example in examples for target in targets_of(example, task)]
    if not task.reads:
        return targets, None
    return targets, [source_of(example, corpus) for example in examples]


def lines_of(corpus: AnyPath | str, split: str) -> Iterator[str]:
    """A split as running text: all targets in order, and "" for the blank lines of its files."""
    before = None
    for example in Corpus(corpus).examples(split):
        here = _LINE_ID.fullmatch(example.id)
        if here and before and here["file"] == before["file"]:
            yield from [""] * (int(here["line"]) - int(before["line"]) - 1)
        before = here
        yield from example.targets


def targets_of(example: Example, task: Task) -> tuple[str, ...]:
    """What is to be told: of several answers the commonest, the first of those as common."""
    if task.tells == "label":
        return (Counter(example.targets).most_common(1)[0][0],)
    return example.targets


def source_of(example: Example, corpus: AnyPath | str) -> str:
    """What is to be read.

    Raises:
        UserError: there is nothing.
    """
    if example.source is None:
        raise UserError(f"{corpus}: example {example.id!r} has no source to read")
    return example.source
