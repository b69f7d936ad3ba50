"""A training keeps what it began with: corpora and snapshots that are pinned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store import pins
from intertitle.pipeline.feature_store.gc import collect
from intertitle.pipeline.storage.paths import as_path
from intertitle.training.data.data_ref import Data, DataRef, features_profile
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.pinning import check_there, pinned, unpin_data
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import Vocabs
from tests.training.conftest import (
    SEEN,
    coloured_things,
    features_of,
    open_data_ref,
    split_of,
    write_data,
    write_features,
)


def arrive(data: DataRef, tmp_path: Path) -> None:
    """Other items come in: the corpus is overwritten in place, the store has another snapshot."""
    new = write_data(tmp_path / "new", coloured_things(40, seed=7))
    for table in ("items.parquet", "examples.parquet"):
        shutil.copyfile(Path(new.corpus) / table, Path(data.corpus) / table)
    store = Path(features_of(data).path)
    write_features(tmp_path / "made", coloured_things(40, seed=7), weights="1")
    shutil.copytree(tmp_path / "made", store, dirs_exist_ok=True)
    collect(as_path(store))


def _items(data: DataRef) -> object:
    features = Data(data).features
    return features and [features_profile(store).facts["items"] for store in features.stores]


def ids(dataset: Dataset) -> list[str]:
    return [example.id for example in dataset.examples]


def test_what_is_pinned_is_read_as_it_was_whatever_arrives(tmp_path: Path, words: Vocabs) -> None:
    began = write_data(tmp_path / "data", coloured_things(20))
    features = features_of(began).path
    with pytest.raises(RuntimeError), pinned(began.corpus, features, "a run: 1/2") as held:
        data = open_data_ref(began.corpus, features, "pooled", held.name)
        before = ids(split_of(data, "train", words))
        texts = texts_of(Data(data).corpus, "train", SEEN)
        (tmp_path / "checkpoint_1").touch()
        held.checkpoints = tmp_path
        raise RuntimeError
    assert data.corpus_fingerprint == began.corpus_fingerprint
    arrive(data, tmp_path)

    check_there(Data(data))
    assert ids(split_of(data, "train", words)) == before
    assert texts_of(Data(data).corpus, "train", SEEN) == texts
    assert _items(data) == [20]
    now = open_data_ref(data.corpus, features, "pooled")
    assert now.corpus_fingerprint != data.corpus_fingerprint
    assert len(ids(split_of(now, "train", words))) == 32
    with pytest.raises(UserError, match="corpus_fingerprint was"):
        check_there(Data(began))

    unpin_data(data)
    collect(as_path(features))
    with pytest.raises(UserError, match="corpus_fingerprint was"):
        check_there(Data(data))
    assert not [*Path(data.corpus).glob("pins/*"), *Path(features).glob("pins/*")]


def test_what_is_finished_or_can_not_go_on_leaves_no_pins(tmp_path: Path) -> None:
    data = write_data(tmp_path, coloured_things(20))
    places = [Path(data.corpus) / "pins", Path(features_of(data).path) / "pins"]
    with pinned(data.corpus, features_of(data).path, "a run"):
        assert all(len(list(place.iterdir())) == 1 for place in places)
    assert not any(list(place.iterdir()) for place in places)
    with pytest.raises(RuntimeError), pinned(data.corpus, features_of(data).path, "a run") as held:
        held.checkpoints = tmp_path / "none"
        raise RuntimeError
    assert not any(list(place.iterdir()) for place in places)
    second = write_features(tmp_path / "second", coloured_things(20))
    places.append(second / "pins")
    with pinned(data.corpus, [features_of(data).path, second], "a run") as held:
        names = [{pin.name for pin in place.iterdir()} for place in places]
        assert names == 3 * [{held.name}]
    assert not any(list(place.iterdir()) for place in places)
    with pytest.raises(UserError, match="not a feature store"), pinned(data.corpus, tmp_path, "x"):
        pass
    assert not list(places[0].iterdir())


def test_where_nothing_can_be_written_a_training_runs_without_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_data(tmp_path, coloured_things(20))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pins, "atomic_write", refuse)
    monkeypatch.setattr(pins, "_copy", refuse)
    with pinned(data.corpus, features_of(data).path, "a run") as held:
        found = open_data_ref(data.corpus, features_of(data).path, "pooled", held.name)
        check_there(Data(found))
        assert found.facts() == data.facts()
    assert caplog.text.count("can't be pinned (Permission denied)") == 2


def test_a_corpus_that_is_written_meanwhile_is_copied_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = write_data(tmp_path / "old", coloured_things(20))
    new = write_data(tmp_path / "new", coloured_things(25))
    copy = pins._copy
    arrived = []

    def copy_and_arrive(source, target) -> None:
        copy(source, target)
        if not arrived:
            # Between the items and the examples.
            arrived.append(shutil.copytree(new.corpus, old.corpus, dirs_exist_ok=True))

    monkeypatch.setattr(pins, "_copy", copy_and_arrive)
    assert pins.pin_corpus(as_path(old.corpus), "pin")
    assert Corpus(old.corpus, "pin").fingerprint() == new.corpus_fingerprint


def test_a_snapshot_that_is_replaced_while_it_is_pinned_is_not_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or `gc` might have removed it before it saw the pin."""
    data = write_data(tmp_path, coloured_things(20))
    store = as_path(features_of(data).path)
    write = pins.atomic_write

    def write_and_publish(target, fill) -> None:
        write(target, fill)
        monkeypatch.setattr(pins, "atomic_write", write)
        write_features(tmp_path / "made", coloured_things(40))
        shutil.copytree(tmp_path / "made", store, dirs_exist_ok=True)

    monkeypatch.setattr(pins, "atomic_write", write_and_publish)
    found = pins.pin_snapshot(store, "pin")
    assert found == pins.pinned_snapshot(store, "pin") != features_of(data).snapshot
    assert collect(store).retained_ids == (found,)
