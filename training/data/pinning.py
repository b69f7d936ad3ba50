"""Pins, which preserve the data of a training while the corpus and the feature store change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.pins import pin_corpus, pin_name, pin_snapshot, unpin
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import AnyPath, as_path
from intertitle.training.data.data_ref import Data, DataRef, StorePaths, store_paths


@dataclass
class Held:
    """Data that is pinned for a training.

    Attributes:
        name: name of the pins.
        checkpoints: path of the run's checkpoint folder; None until the run exists.
    """

    name: str
    checkpoints: Path | None = None


@contextlib.contextmanager
def pinned(
    corpus: AnyPath | str, features: StorePaths, holder: str, name: str | None = None
) -> Iterator[Held]:
    """Pin a corpus and the stores' current snapshots for `open_data` until the block ends.

    After an error they stay pinned if the run has a checkpoint to resume from.

    Args:
        corpus: folder or URL of the corpus.
        features: feature stores; None pins the corpus only.
        holder: description of the user of the data, for people.
        name: name of pins that the caller has created and will remove; nothing is pinned here then.

    Raises:
        UserError: corpus or store is invalid.
    """
    if name is not None:
        yield Held(name)
        return
    held, stores = Held(pin_name(holder)), store_paths(features)
    finished = False
    try:
        pin_corpus(Corpus(corpus).path, held.name)
        for store in stores:
            pin_snapshot(store, held.name)
        yield held
        finished = True
    finally:
        folder = held.checkpoints
        if finished or folder is None or not any(folder.glob("checkpoint_*")):
            _unpin(held.name, corpus, *stores)


def unpin_data(data: DataRef) -> None:
    """Remove the pins of a finished run's data."""
    if data.pin:
        _unpin(data.pin, data.corpus, *data.stores)


def _unpin(name: str, *places: AnyPath | str) -> None:
    for place in places:
        # A pin that remains takes little space. `gc --release` removes that of a store; that of a
        # corpus is a folder that anyone may remove.
        with contextlib.suppress(OSError):
            unpin(as_path(place), name)


def check_there(data: Data) -> None:
    """Check that a run can continue with its original data: it is pinned or unchanged.

    Raises:
        UserError: the corpus has changed and was not pinned, or the snapshot was removed.
    """
    current = data.corpus.fingerprint()
    if current != data.ref.corpus_fingerprint:
        raise _changed("corpus_fingerprint", data.ref.corpus_fingerprint, current)
    # Opening the stores checks the fingerprints of their features.
    _ = data.features


def check_unchanged(data: DataRef) -> None:
    """Check that the corpus and the stores of a run have not changed since it started.

    Raises:
        UserError: one of them has changed.
    """
    corpus = Corpus(data.corpus).fingerprint()
    facts = [("corpus_fingerprint", data.corpus_fingerprint, corpus)]
    for ref in data.features:
        store = FeatureStore(ref.path)
        features_fingerprint = store.snapshot.fingerprint.features_json()
        facts += [
            ("snapshot", ref.snapshot, store.snapshot_id),
            ("features_fingerprint", ref.fingerprint, features_fingerprint),
        ]
    for name, recorded, current in facts:
        if recorded != current:
            raise _changed(name, recorded, current)


def _changed(name: str, was: str, current: str) -> UserError:
    return UserError(
        f"{name} was {was} when the run began and is {current}; "
        "a training goes on with the data it began with"
    )
