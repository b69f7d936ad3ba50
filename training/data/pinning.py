"""A training keeps the data that it began with, whatever becomes of the corpus and the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import Corpus
from pipeline.errors import UserError
from pipeline.location import AnyPath, location
from pipeline.pins import pin_corpus, pin_name, pin_snapshot, unpin
from pipeline.store import FeatureStore
from training.data.source import DataSource


@dataclass
class Held:
    """Data that is pinned for a training.

    Attributes:
        name: of the pins.
        checkpoints: the folder of the run's, once there is a run.
    """

    name: str
    checkpoints: Path | None = None


@contextlib.contextmanager
def pinned(
    corpus: AnyPath | str, features: AnyPath | str | None, holder: str, name: str | None = None
) -> Iterator[Held]:
    """Pin a corpus and a store's current snapshot, for `describe_data`, until a block is finished.

    After an error they stay pinned if the run has a checkpoint to go on from.

    Args:
        corpus: its folder or URL.
        features: the store; None pins the corpus alone.
        holder: who needs them, as a person knows it.
        name: of what the caller has pinned, and unpins; then nothing is done here.

    Raises:
        UserError: one of them is not what it should be.
    """
    if name is not None:
        yield Held(name)
        return
    held = Held(pin_name(holder))
    resumable = False
    try:
        pin_corpus(Corpus(corpus).path, held.name)
        if features is not None:
            pin_snapshot(location(features), held.name)
        yield held
    except BaseException:
        folder = held.checkpoints
        resumable = folder is not None and any(folder.glob("checkpoint_*"))
        raise
    finally:
        if not resumable:
            _unpin(held.name, corpus, features)


def unpin_data(data: DataSource) -> None:
    """Let go of the data of a run that is finished."""
    if data.pin:
        _unpin(data.pin, data.corpus, data.features.path if data.features else None)


def _unpin(name: str, *places: AnyPath | str | None) -> None:
    for place in places:
        if place is not None:
            # A pin that stays costs a little room; `gc --release` removes it.
            with contextlib.suppress(OSError):
                unpin(location(place), name)


def check_there(data: DataSource) -> None:
    """Make sure that a run can go on with the data that it began with: pinned, or unchanged since.

    Raises:
        UserError: the corpus has changed and was not pinned, or the snapshot was removed.
    """
    found = Corpus(data.corpus, data.pin).fingerprint()
    if found != data.corpus_fingerprint:
        raise _changed("corpus_fingerprint", data.corpus_fingerprint, found)
    if data.features:
        make = FeatureStore(data.features.path, data.features.snapshot).snapshot.fingerprint
        if make.features_json() != data.features.fingerprint:
            raise _changed("features_fingerprint", data.features.fingerprint, make.features_json())


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
            raise _changed(name, was, found)


def _changed(name: str, was: str, found: str) -> UserError:
    return UserError(
        f"{name} was {was} when the run began and is {found}; "
        "a training goes on with the data it began with"
    )
