"""The data of a training: references to it, and access to its texts, items and features.

Within the training package, only the modules of this folder use the pipeline's data.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from intertitle.pipeline.corpus import EXAMPLE_SCHEMA, Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.external.identity import check_same_corpus
from intertitle.pipeline.feature_store.pins import pinned_snapshot
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import AnyPath, as_path
from intertitle.training.data.task import VisualInput


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
    def store(self) -> FeatureStore | None:
        """Opened feature store; None for a task on text only.

        Raises:
            UserError: the snapshot is not there, or its features have another fingerprint than the
                reference.
        """
        if self.ref.features is None:
            return None
        store = FeatureStore(self.ref.features.path, self.ref.features.snapshot)
        check_fingerprint(store, self.ref.features.fingerprint)
        return store


def check_fingerprint(store: FeatureStore, trained_on: str) -> None:
    """Check that features were computed like those that a model was trained on.

    Args:
        store: store of the features.
        trained_on: description of the features of the training, as in `FeatureRef.fingerprint`.

    Raises:
        UserError: they were computed in another way.
    """
    fingerprint = store.snapshot.fingerprint.features_json()
    if fingerprint != trained_on:
        raise UserError(
            f"{store.path}: features are {fingerprint}, the model was trained on {trained_on}"
        )


def open_data(
    corpus: AnyPath | str, features: AnyPath | str | None, sees: VisualInput, pin: str | None = None
) -> Data:
    """Open a corpus and, for a task with visual input, a feature store.

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
    store = None if features is None else _open_store(features, sees, pin)
    feature_ref = None
    if store is not None:
        fingerprint = store.snapshot.fingerprint
        feature_ref = FeatureRef(
            *(str(store.path.absolute()), store.snapshot_id, fingerprint.features_json()),
            fingerprint.dim,
        )
    source = Corpus(corpus, pin)
    if store is not None:
        check_same_corpus(store, source)
    path = str(source.path.absolute())
    data = Data(DataRef(path, source.fingerprint(), feature_ref, source.target_language, pin))
    data.corpus, data.store = source, store
    return data


def _open_store(features: AnyPath | str, sees: VisualInput, pin: str | None) -> FeatureStore:
    pinned = pinned_snapshot(as_path(features), pin) if pin else None
    store = FeatureStore(features, pinned)
    fingerprint = store.snapshot.fingerprint
    if fingerprint.features != sees:
        raise UserError(
            f"{store.path}: {fingerprint.features} features, this recipe sees {sees} ones "
            f"(`intertitle precompute --features {sees}`)"
        )
    return store


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
