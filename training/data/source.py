"""Where a training's data lies and what it is, and the texts that its vocabularies are built from.

This module, `dataset` and `pinning` are the only ones of the training that touch the pipeline.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.corpus import EXAMPLE_SCHEMA, Corpus, Example, clean_text, items_of
from pipeline.decode import DecodeError
from pipeline.errors import FileError, UserError
from pipeline.files import (
    DEFAULT_READING as DEFAULT_READING,
)
from pipeline.files import (
    STORED,
    features_of_file,
    frames_for,
    source_of_file,
)
from pipeline.files import (
    Reading as Reading,
)
from pipeline.location import AnyPath, location
from pipeline.pins import pinned_snapshot
from pipeline.source import Source
from pipeline.store import FeatureStore
from pipeline.strip import picture_strip
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
        target_language: of its targets, as `en`; None where the corpus does not name it.
        pin: the name of the pin that keeps the corpus as it was; None reads it as it is now.
    """

    corpus: str
    corpus_fingerprint: str
    features: FeatureSource | None = None
    target_language: str | None = None
    pin: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataSource:
        """The inverse of `dataclasses.asdict`, and of `facts`."""
        features = values["features"]
        return cls(**{**values, "features": features and FeatureSource(**features)})

    def facts(self) -> dict[str, Any]:
        """What a model or an evaluation tells of its data: they outlive the pin."""
        values = asdict(self)
        del values["pin"]
        return values

    @property
    def feature_dim(self) -> int:
        """D; 0 where nothing is seen."""
        return self.features.dim if self.features else 0


def describe_data(
    corpus: AnyPath | str, features: AnyPath | str | None, sees: Sees, pin: str | None = None
) -> DataSource:
    """Look at a corpus and, for a task that sees, at a store.

    Args:
        corpus: its folder or URL.
        features: of its items.
        sees: what the task does.
        pin: the name of what `pin_data` pinned; None looks at both as they are now.

    Raises:
        UserError: one of them is not what it should be, or is missing or not wanted.
    """
    if sees == "nothing" and features is not None:
        raise UserError(f"--features {features}: this recipe reads text alone")
    if sees != "nothing" and features is None:
        raise UserError(f"--features: missing; this recipe sees {sees} features")
    seen = None if features is None else _describe_features(features, sees, pin)
    source = Corpus(corpus, pin)
    path = str(source.path.absolute())
    return DataSource(path, source.fingerprint(), seen, source.target_language, pin)


def _describe_features(features: AnyPath | str, sees: Sees, pin: str | None) -> FeatureSource:
    pinned = pinned_snapshot(location(features), pin) if pin else None
    store = FeatureStore(features, pinned)
    found = store.snapshot.fingerprint
    if found.features != sees:
        raise UserError(
            f"{store.path}: {found.features} features, this recipe sees {sees} ones "
            f"(`intertitle precompute --features {sees}`)"
        )
    return FeatureSource(
        str(store.path.absolute()), store.snapshot_id, found.features_json(), found.dim
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """What a person wants to know of data at a glance.

    Attributes:
        columns: the type of each.
        facts: numbers and words by name.
    """

    columns: dict[str, str]
    facts: dict[str, int | str]


def corpus_profile(data: DataSource) -> Profile:
    """How much a corpus holds, by split."""
    corpus = Corpus(data.corpus, data.pin)
    examples = {f"{split}_examples": num for split, num in corpus.counts().items()}
    references = corpus.num_references()
    columns = {field.name: _type_name(field.type) for field in EXAMPLE_SCHEMA}
    return Profile(columns, {"items": corpus.num_items(), "references": references, **examples})


def features_profile(features: FeatureSource) -> Profile:
    """What a store holds."""
    snapshot = FeatureStore(features.path, features.snapshot).snapshot
    made = snapshot.fingerprint
    shape = ", ".join(map(str, ("frames", *made.shape)))
    return Profile(
        {"key": "string", "features": f"{made.dtype} [{shape}]"},
        {
            "items": len(snapshot),
            "items_in_quarantine": snapshot.counts()["quarantined"],
            "frames": int(pc.sum(snapshot.table["num_frames"]).as_py() or 0),
            "backbone": made.backbone,
            "sampling": made.sampling,
        },
    )


def _type_name(kind: pa.DataType) -> str:
    return f"array({kind.value_type})" if pa.types.is_list(kind) else str(kind)


def feature_maker(
    source: FeatureSource, reading: Reading = DEFAULT_READING
) -> Callable[[Path], NDArray[np.float32]]:
    """A function that makes features for a new file as those of a training were made: [T, D].

    Raises:
        UserError: they can't be made so on this machine.
        FileError: raised by the function: the file can't be read.
    """
    return features_of_file(source.fingerprint, reading)


def frames_of(
    source: FeatureSource, file: Path, reading: Reading = DEFAULT_READING
) -> NDArray[np.uint8]:
    """The frames that features of a new file are made from, [T, H, W, 3].

    Raises:
        FileError: the file can't be decoded.
    """
    return frames_for(source.fingerprint, source_of_file(file, reading), reading)


def pictures_of(
    corpus: AnyPath | str, item_keys: Collection[str], *, num_frames: int = 4, height: int = 96
) -> dict[str, bytes]:
    """What some items look like, for a table that a person reads.

    Args:
        corpus: the folder or URL.
        item_keys: of it.
        num_frames: of a video, spread evenly over it.
        height: in pixels.

    Returns:
        A JPEG by key: frames side by side, or the image. Items that can't be read are absent.

    Raises:
        UserError: the folder is not a corpus.
    """
    pictures = {}
    for source in _items(corpus, item_keys):
        with contextlib.suppress(DecodeError):
            pictures[source.item.key] = picture_strip(source, num_frames, height)
    return pictures


@dataclass(frozen=True, slots=True)
class Look:
    """An item as a model sees it.

    Attributes:
        features: [T, D] or [T, cells, D].
        frames: that they were made from, uint8 [T, H, W, 3].
    """

    features: NDArray[np.float32]
    frames: NDArray[np.uint8]


def looks_of(data: DataSource, item_keys: Collection[str]) -> dict[str, Look]:
    """Some items as a model sees them, by key; those whose file can't be read as it was are absent.

    Args:
        data: with features.
        item_keys: of items that have them.
    """
    assert data.features is not None
    store = FeatureStore(data.features.path, data.features.snapshot)
    looks = {}
    for source in _items(data.corpus, item_keys):
        with contextlib.suppress(FileError):
            features = store.features(source.item.key)
            frames = frames_for(data.features.fingerprint, source, STORED)
            if len(frames) == len(features):
                looks[source.item.key] = Look(features, frames)
    return looks


def _items(corpus: AnyPath | str, item_keys: Collection[str]) -> list[Source]:
    """Some items of a corpus.

    Raises:
        UserError: the folder is not a corpus.
    """
    source = Corpus(corpus)
    table = source.item_table()
    wanted = pa.array(sorted(item_keys), pa.string())
    chosen = table.filter(pc.is_in(table["key"], value_set=wanted))
    return [Source(item, str(source.path)) for item in items_of(chosen)]


def texts_of(
    corpus: AnyPath | str, split: str, task: Task, pin: str | None = None
) -> tuple[list[str], list[str] | None]:
    """The targets of a split, and the sources where a task reads: what vocabularies are built from.

    Raises:
        UserError: a source is missing.
    """
    examples = Corpus(corpus, pin).examples(split)
    targets = [target for example in examples for target in targets_of(example, task)]
    if not task.reads:
        return targets, None
    return targets, [source_of(example, corpus) for example in examples]


def lines_of(corpus: AnyPath | str, split: str, pin: str | None = None) -> Iterator[str]:
    """A split as running text: all targets in order, and "" for the blank lines of its files."""
    before = None
    for example in Corpus(corpus, pin).examples(split):
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


def as_in_corpus(text: str) -> str:
    """A text cleaned as those of a corpus are: on one line, with single spaces."""
    return clean_text(text)


def source_of(example: Example, corpus: AnyPath | str) -> str:
    """What is to be read.

    Raises:
        UserError: there is nothing.
    """
    if example.source is None:
        raise UserError(f"{corpus}: example {example.id!r} has no source to read")
    return example.source
