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
from intertitle.training.data.data_ref import Data, DataRef


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
    corpus: AnyPath | str, features: AnyPath | str | None, holder: str, name: str | None = None
) -> Iterator[Held]:
    """Pin a corpus and a store's current snapshot for `open_data` until the block ends.

    After an error they stay pinned if the run has a checkpoint to resume from.

    Args:
        corpus: folder or URL of the corpus.
        features: path or URL of the feature store; None pins the corpus only.
        holder: description of the user of the data, for people.
        name: name of pins that the caller has created and will remove; nothing is pinned here then.

    Raises:
        UserError: corpus or store is invalid.
    """
    if name is not None:
        yield Held(name)
        return
    held = Held(pin_name(holder))
    finished = False
    try:
        pin_corpus(Corpus(corpus).path, held.name)
        if features is not None:
            pin_snapshot(as_path(features), held.name)
        yield held
        finished = True
    finally:
        folder = held.checkpoints
        if finished or folder is None or not any(folder.glob("checkpoint_*")):
            _unpin(held.name, corpus, features)


def unpin_data(data: DataRef) -> None:
    """Remove the pins of a finished run's data."""
    if data.pin:
        _unpin(data.pin, data.corpus, data.features.path if data.features else None)


def _unpin(name: str, *places: AnyPath | str | None) -> None:
    for place in places:
        if place is not None:
            # A pin that remains takes little space. `gc --release` removes that of a store; that of
            # a corpus is a folder that anyone may remove.
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
    # Opening the store checks the fingerprint of its features.
    _ = data.store


def check_unchanged(data: DataRef) -> None:
    """Check that the corpus and the store of a run have not changed since it started.

    Raises:
        UserError: one of them has changed.
    """
    corpus = Corpus(data.corpus).fingerprint()
    facts = [("corpus_fingerprint", data.corpus_fingerprint, corpus)]
    if data.features:
        store = FeatureStore(data.features.path)
        features_fingerprint = store.snapshot.fingerprint.features_json()
        facts += [
            ("snapshot", data.features.snapshot, store.snapshot_id),
            ("features_fingerprint", data.features.fingerprint, features_fingerprint),
        ]
    for name, recorded, current in facts:
        if recorded != current:
            raise _changed(name, recorded, current)


def _changed(name: str, was: str, current: str) -> UserError:
    return UserError(
        f"{name} was {was} when the run began and is {current}; "
        "a training goes on with the data it began with"
    )
