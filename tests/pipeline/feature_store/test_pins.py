"""Pins of a corpus and a store, in a folder and in an object store."""

from __future__ import annotations

import errno
import uuid
from pathlib import Path

import pytest
from upath import UPath

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store import pins
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


def test_a_pin_is_written_while_the_only_other_one_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = as_path(tmp_path)
    (store / "CURRENT").write_text("a\n")
    pin_snapshot(store, "other")
    uuid4 = uuid.uuid4

    def unpin_other() -> uuid.UUID:
        """`atomic_write` names its file after it made the folder and before it writes."""
        unpin(store, "other")
        return uuid4()

    monkeypatch.setattr(uuid, "uuid4", unpin_other)
    assert pin_snapshot(store, "mine") == "a"
    assert pinned_snapshots(store) == {"mine": "a"}


def test_a_full_disk_leaves_no_incomplete_pin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path, [], [Example("1", "train", None, None, ("text",))])
    copy = pins._copy

    def fill_disk(source: UPath, target: UPath) -> None:
        copy(source, target)
        if source.name == "examples.parquet":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pins, "_copy", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        pin_corpus(as_path(tmp_path), "pin")
    assert not list((tmp_path / "pins").iterdir())
