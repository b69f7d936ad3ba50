"""The data of a training: references to it, and access to its texts, items and features.

Within the training package, only the modules of this folder use the pipeline's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from intertitle.pipeline.corpus import EXAMPLE_SCHEMA, Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.external.identity import check_same_corpus
from intertitle.pipeline.feature_store.pins import pinned_snapshot
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import AnyPath, as_path
from intertitle.training.data.arrays.joined_stores import JoinedStores
from intertitle.training.data.task import VisualInput

# Path or URL of a feature store, or those of several of the same corpus; None stands for none.
StorePaths = AnyPath | str | Sequence[AnyPath | str] | None


def store_paths(features: StorePaths) -> list[UPath]:
    """Return the paths of one feature store, of several or of none as a list."""
    if features is None:
        return []
    if isinstance(features, (str, Path, UPath)):
        return [as_path(features)]
    return [as_path(path) for path in features]


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
        features: features of the corpus' items. Those of several stores are concatenated, in this
            order; empty for a task on text only.
        target_language: language code of the targets, such as `en`; None if the corpus does not
            define it.
        pin: name of the pin that preserves the corpus at a point in time; None reads the current
            corpus.
    """

    corpus: str
    corpus_fingerprint: str
    features: tuple[FeatureRef, ...] = ()
    target_language: str | None = None
    pin: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DataRef:
        """Create a reference from the result of `dataclasses.asdict` or `facts`."""
        features = tuple(FeatureRef(**ref) for ref in values["features"])
        return cls(**{**values, "features": features})

    def facts(self) -> dict[str, Any]:
        """Return the values that a model or an evaluation records, without the temporary pin."""
        values = asdict(self)
        del values["pin"]
        # As JSON returns it, because recorded values are compared.
        return {**values, "features": list(values["features"])}

    @property
    def feature_dim(self) -> int:
        """Size of a feature vector; 0 if the task has no visual input."""
        return sum(ref.dim for ref in self.features)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """Descriptions of how the features of each store were computed."""
        return tuple(ref.fingerprint for ref in self.features)

    @property
    def stores(self) -> tuple[str, ...]:
        """Paths of the feature stores."""
        return tuple(ref.path for ref in self.features)


class Data:
    """Data that a process opens once, when it is first used, and hands on.

    Args:
        ref: reference to the data.
    """

    def __init__(self, ref: DataRef) -> None:
        self.ref = ref

    @cached_property
    def corpus(self) -> Corpus:
        """Opened corpus.

        Raises:
            UserError: the folder is not a corpus.
        """
        return Corpus(self.ref.corpus, self.ref.pin)

    @cached_property
    def features(self) -> JoinedStores | None:
        """Opened feature stores; None for a task on text only.

        Raises:
            UserError: a snapshot is not there, or its features have another fingerprint than the
                reference.
        """
        refs = self.ref.features
        stores = [FeatureStore(ref.path, ref.snapshot) for ref in refs]
        check_fingerprints(stores, self.ref.fingerprints)
        return JoinedStores(stores) if stores else None


def check_fingerprints(stores: Sequence[FeatureStore], trained_on: Sequence[str]) -> None:
    """Check that features were computed like those that a model was trained on.

    Args:
        stores: stores of the features.
        trained_on: descriptions of the features of the training, as in `DataRef.fingerprints`.

    Raises:
        UserError: they were computed in another way, or the stores are in another order.
    """
    if len(stores) != len(trained_on):
        raise UserError(
            f"--features: {len(stores)} of them, the model was trained on {len(trained_on)} "
            "together"
        )
    for store, expected in zip(stores, trained_on, strict=True):
        fingerprint = store.snapshot.fingerprint.features_json()
        if fingerprint != expected:
            raise UserError(
                f"{store.path}: features are {fingerprint}, the model was trained on {expected}"
            )


def open_data(
    corpus: AnyPath | str, features: StorePaths, sees: VisualInput, pin: str | None = None
) -> Data:
    """Open a corpus and, for a task with visual input, feature stores.

    Args:
        corpus: folder or URL of the corpus.
        features: feature stores; None for a task on text only.
        sees: visual input of the task.
        pin: name under which `pinned` pinned the data; None opens the current state.

    Raises:
        UserError: corpus or store is missing, invalid or unsuitable for the task.
    """
    paths = store_paths(features)
    if sees == "nothing" and paths:
        raise UserError(f"--features {paths[0]}: this recipe reads text alone")
    if sees != "nothing" and not paths:
        raise UserError(f"--features: missing; this recipe sees {sees} features")
    stores = [_open_store(path, sees, pin) for path in paths]
    source = Corpus(corpus, pin)
    for store in stores:
        check_same_corpus(store, source)
    refs = tuple(map(_ref_of, stores))
    path = str(source.path.absolute())
    data = Data(DataRef(path, source.fingerprint(), refs, source.target_language, pin))
    data.corpus, data.features = source, JoinedStores(stores) if stores else None
    return data


def _open_store(path: UPath, sees: VisualInput, pin: str | None) -> FeatureStore:
    store = FeatureStore(path, pinned_snapshot(path, pin) if pin else None)
    fingerprint = store.snapshot.fingerprint
    if fingerprint.features != sees:
        raise UserError(
            f"{store.path}: {fingerprint.features} features, this recipe sees {sees} ones "
            f"(`intertitle precompute --features {sees}`)"
        )
    return store


def _ref_of(store: FeatureStore) -> FeatureRef:
    fingerprint = store.snapshot.fingerprint
    path, snapshot = str(store.path.absolute()), store.snapshot_id
    return FeatureRef(path, snapshot, fingerprint.features_json(), fingerprint.dim)


@dataclass(frozen=True, slots=True)
class Profile:
    """A summary of data for display.

    Attributes:
        columns: type of each column.
        facts: numbers and strings by name.
    """

    columns: dict[str, str]
    facts: dict[str, int | str]


def corpus_profile(corpus: Corpus) -> Profile:
    """Summarize the contents of a corpus, with the number of examples of each split."""
    examples = {f"{split}_examples": num for split, num in corpus.counts().items()}
    references = corpus.num_references()
    columns = {field.name: _type_name(field.type) for field in EXAMPLE_SCHEMA}
    return Profile(columns, {"items": corpus.num_items(), "references": references, **examples})


def features_profile(store: FeatureStore) -> Profile:
    """Summarize the contents of a feature store."""
    snapshot = store.snapshot
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
