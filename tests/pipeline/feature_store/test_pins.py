"""Pins of a corpus and a store, in a folder and in an object store."""

from __future__ import annotations

from pathlib import Path

import pytest
from upath import UPath

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.pins import (
    pin_corpus,
    pin_name,
    pin_snapshot,
    pinned_snapshots,
    unpin,
)
from intertitle.pipeline.storage.paths import as_path


@pytest.fixture(params=["folder", "object store"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    if request.param == "folder":
        return as_path(tmp_path)
    request.getfixturevalue("object_store")
    return as_path("s3://bucket/pins test")


def test_pins_keep_what_was_there_and_go(place: UPath) -> None:
    corpus, store = place / "corpus", place / "store"
    old = write_corpus(corpus, [], [Example("1", "train", None, None, ("old",))]).fingerprint()
    names = [pin_name("a run: 1/2 é") for _ in range(2)]
    assert len(set(names)) == 2 and all(name.startswith("a-run-1-2--") for name in names)
    for name in names:
        assert pin_corpus(corpus, name)
    new = write_corpus(corpus, [], [Example("1", "train", None, None, ("new",))]).fingerprint()
    assert [Corpus(corpus, name).fingerprint() for name in names] == [old, old]
    unpin(corpus, names[0])
    unpin(corpus, names[0])
    assert [Corpus(corpus, name).fingerprint() for name in names] == [new, old]
    assert Corpus(corpus, names[1]).path == corpus

    assert pinned_snapshots(store) == {}
    with pytest.raises(UserError, match="not a feature store"):
        pin_snapshot(store, names[0])
    for name, snapshot in zip(names, "ab", strict=True):
        store.fs.makedirs(store.path, exist_ok=True)
        (store / "CURRENT").write_text(f"{snapshot}\n")
        assert pin_snapshot(store, name) == snapshot
    assert pinned_snapshots(store) == dict(zip(names, "ab", strict=True))
    for name in names:
        unpin(store, name)
        unpin(store, name)
    assert pinned_snapshots(store) == {}
