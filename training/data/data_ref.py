"""References to the data of a training, and access to its texts, items and features.

Within the training package, only this module, `dataset` and `pinning` use the pipeline's data.
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

from intertitle.pipeline.corpus import EXAMPLE_SCHEMA, Corpus, Example, clean_text, items_of
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.errors import FileError, UserError
from intertitle.pipeline.extract import DEFAULT_READING as DEFAULT_READING
from intertitle.pipeline.extract import STORED, features_of_file, frames_for, source_of_file
from intertitle.pipeline.extract import Reading as Reading
from intertitle.pipeline.feature_store.pins import pinned_snapshot
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.preview.thumbnails import filmstrip
from intertitle.pipeline.storage.paths import AnyPath, as_path
from intertitle.training.data.task import Task, VisualInput

# The id of a line of text: its file and line number; the numbers of blank lines are missing.
_LINE_ID = re.compile(r"(?P<file>.*):(?P<line>\d{9})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class FeatureRef:
    """A reference to the features of a store.

    Attributes:
        path: path of the feature store.
        snapshot: id of the store's snapshot.
        fingerprint: description of how the features were computed, as JSON.
        dim: D, size of a feature vector.
    """

    path: str
    snapshot: str
    fingerprint: str
    dim: int


@dataclass(frozen=True, slots=True)
class DataRef:
    """A reference to the data of a training.

    Attributes:
        corpus: path of the corpus folder.
        corpus_fingerprint: fingerprint of all rows of the corpus.
        features: features of the corpus' items; None for a task on text only.
        target_language: language code of the targets, such as `en`; None if the corpus does not
            define it.
        pin: name of the pin that preserves the corpus at a point in time; None reads the current
            corpus.
    """

    corpus: str
    corpus_fingerprint: str
    features: FeatureRef | None = None
    target_language: str | None = None
    pin: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataRef:
        """Create a reference from the result of `dataclasses.asdict` or `facts`."""
        features = values["features"]
        return cls(**{**values, "features": features and FeatureRef(**features)})

    def facts(self) -> dict[str, Any]:
        """Return the values that a model or an evaluation records, without the temporary pin."""
        values = asdict(self)
        del values["pin"]
        return values

    @property
    def feature_dim(self) -> int:
        """Size of a feature vector; 0 if the task has no visual input."""
        return self.features.dim if self.features else 0


def open_data_ref(
    corpus: AnyPath | str, features: AnyPath | str | None, sees: VisualInput, pin: str | None = None
) -> DataRef:
    """Open a corpus and, for a task with visual input, a feature store, and return a reference.

    Args:
        corpus: folder or URL of the corpus.
        features: path or URL of the feature store; None for a task on text only.
        sees: visual input of the task.
        pin: name under which `pinned` pinned the data; None opens the current state.

    Raises:
        UserError: corpus or store is missing, invalid or unsuitable for the task.
    """
    if sees == "nothing" and features is not None:
        raise UserError(f"--features {features}: this recipe reads text alone")
    if sees != "nothing" and features is None:
        raise UserError(f"--features: missing; this recipe sees {sees} features")
    feature_ref = None if features is None else _open_feature_ref(features, sees, pin)
    source = Corpus(corpus, pin)
    path = str(source.path.absolute())
    return DataRef(path, source.fingerprint(), feature_ref, source.target_language, pin)


def _open_feature_ref(features: AnyPath | str, sees: VisualInput, pin: str | None) -> FeatureRef:
    pinned = pinned_snapshot(as_path(features), pin) if pin else None
    store = FeatureStore(features, pinned)
    fingerprint = store.snapshot.fingerprint
    if fingerprint.features != sees:
        raise UserError(
            f"{store.path}: {fingerprint.features} features, this recipe sees {sees} ones "
            f"(`intertitle precompute --features {sees}`)"
        )
    return FeatureRef(
        str(store.path.absolute()), store.snapshot_id, fingerprint.features_json(), fingerprint.dim
    )


@dataclass(frozen=True, slots=True)
class Profile:
    """A summary of data for display.

    Attributes:
        columns: type of each column.
        facts: numbers and strings by name.
    """

    columns: dict[str, str]
    facts: dict[str, int | str]


def corpus_profile(data: DataRef) -> Profile:
    """Summarize the contents of a corpus, with the number of examples of each split."""
    corpus = Corpus(data.corpus, data.pin)
    examples = {f"{split}_examples": num for split, num in corpus.counts().items()}
    references = corpus.num_references()
    columns = {field.name: _type_name(field.type) for field in EXAMPLE_SCHEMA}
    return Profile(columns, {"items": corpus.num_items(), "references": references, **examples})


def features_profile(features: FeatureRef) -> Profile:
    """Summarize the contents of a feature store."""
    snapshot = FeatureStore(features.path, features.snapshot).snapshot
    fingerprint = snapshot.fingerprint
    shape = ", ".join(map(str, ("frames", *fingerprint.shape)))
    return Profile(
        {"key": "string", "features": f"{fingerprint.dtype} [{shape}]"},
        {
            "items": len(snapshot),
            "items_in_quarantine": snapshot.counts()["quarantined"],
            "frames": int(pc.sum(snapshot.table["num_frames"]).as_py() or 0),
            "backbone": fingerprint.backbone,
            "sampling": fingerprint.sampling,
        },
    )


def _type_name(kind: pa.DataType) -> str:
    return f"array({kind.value_type})" if pa.types.is_list(kind) else str(kind)


def feature_extractor(
    source: FeatureRef, reading: Reading = DEFAULT_READING
) -> Callable[[Path], NDArray[np.float32]]:
    """Return a function that computes the features of a new file, [T, D], as for the training data.

    Raises:
        UserError: the features can't be computed on this machine.
        FileError: raised by the returned function: the file can't be read.
    """
    return features_of_file(source.fingerprint, reading)


def frames_of(
    source: FeatureRef, file: Path, reading: Reading = DEFAULT_READING
) -> NDArray[np.uint8]:
    """Return the frames that the features of a new file are computed from, [T, H, W, 3].

    Raises:
        FileError: the file can't be decoded.
    """
    return frames_for(source.fingerprint, source_of_file(file, reading), reading)


def thumbnails_of(
    corpus: AnyPath | str, item_keys: Collection[str], *, num_frames: int = 4, height: int = 96
) -> dict[str, bytes]:
    """Return thumbnails of items, for tables that people read.

    Args:
        corpus: folder or URL of the corpus.
        item_keys: keys of the items.
        num_frames: number of frames of a video, evenly spaced.
        height: height of the thumbnails in pixels.

    Returns:
        JPEG files by key: frames next to each other, or the image. Items that can't be read are
        missing.

    Raises:
        UserError: the folder is not a corpus.
    """
    thumbnails = {}
    for source in _items(corpus, item_keys):
        with contextlib.suppress(DecodeError):
            thumbnails[source.item.key] = filmstrip(source, num_frames, height)
    return thumbnails


@dataclass(frozen=True, slots=True)
class ItemView:
    """The input of a model for one item.

    Attributes:
        features: features, [T, D] or [T, cells, D].
        frames: frames that the features were computed from, uint8, [T, H, W, 3].
    """

    features: NDArray[np.float32]
    frames: NDArray[np.uint8]


def item_views(data: DataRef, item_keys: Collection[str]) -> dict[str, ItemView]:
    """Return the features and frames of items, by key.

    Items whose file can't be read in the same way as before are missing.

    Args:
        data: reference to data with features.
        item_keys: keys of items that have features.
    """
    assert data.features is not None
    store = FeatureStore(data.features.path, data.features.snapshot)
    views = {}
    for source in _items(data.corpus, item_keys):
        with contextlib.suppress(FileError):
            features = store.features(source.item.key)
            frames = frames_for(data.features.fingerprint, source, STORED)
            if len(frames) == len(features):
                views[source.item.key] = ItemView(features, frames)
    return views


def _items(corpus: AnyPath | str, item_keys: Collection[str]) -> list[ItemFile]:
    """Return items of a corpus.

    Raises:
        UserError: the folder is not a corpus.
    """
    source = Corpus(corpus)
    table = source.item_table()
    keys = pa.array(sorted(item_keys), pa.string())
    chosen = table.filter(pc.is_in(table["key"], value_set=keys))
    return [ItemFile(item, str(source.path)) for item in items_of(chosen)]


def texts_of(
    corpus: AnyPath | str, split: str, task: Task, pin: str | None = None
) -> tuple[list[str], list[str] | None]:
    """Return the texts that vocabularies are built from.

    Returns:
        The targets of the split, and its sources, or None if the task has no source.

    Raises:
        UserError: a source is missing.
    """
    examples = Corpus(corpus, pin).examples(split)
    targets = [target for example in examples for target in targets_of(example, task)]
    if not task.has_source:
        return targets, None
    return targets, [source_of(example, corpus) for example in examples]


def lines_of(corpus: AnyPath | str, split: str, pin: str | None = None) -> Iterator[str]:
    """Yield all targets of a split in order, and "" for the blank lines of its files."""
    previous = None
    for example in Corpus(corpus, pin).examples(split):
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
