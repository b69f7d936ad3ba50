"""A corpus joined with its features."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus import Corpus, Example, Item, write_corpus
from pipeline.errors import UserError
from pipeline.snapshot import ItemRecord, publish, table_of
from pipeline.store import FeatureStore
from training.data.dataset import (
    Dataset,
    DataSource,
    check_unchanged,
    describe_data,
    training_sentences,
)
from training.data.tokenizer import EOS_ID, UNK_ID, WordTokenizer

from ..conftest import DIM, coloured_things, write_data, write_features


def test_a_row_is_one_target_with_the_features_of_its_item(
    things: DataSource, tokenizer: WordTokenizer
) -> None:
    dataset = Dataset(things, "train", tokenizer, 30)
    shown = [one for one in coloured_things(60) if one.split == "train"]
    wanted = [(s.features, target) for s in shown for target in s.targets]
    assert len(dataset) == len(wanted) > len(shown) == len(dataset.examples)
    for row, (features, target) in enumerate(wanted):
        batch = dataset.batch([row])
        ids = tokenizer.encode(target)
        assert np.array_equal(batch.features[0], features)
        assert batch.targets[0].tolist() == [*ids, EOS_ID]
        assert dataset.lengths[row] == len(features) + len(ids) + 1
    assert dataset.num_targets(np.array([0, 1])) == int(dataset.batch([0, 1]).num_targets.sum())


def test_a_question_shows_the_item_and_not_the_answer(
    things: DataSource, tokenizer: WordTokenizer
) -> None:
    dataset = Dataset(things, "val", tokenizer, 30)
    batch = dataset.questions(range(3))
    assert batch.num_targets.tolist() == [1, 1, 1]
    assert np.array_equal(batch.features[2, : batch.num_frames[2]], dataset.features(2))


def test_some_features_are_spread_over_the_split(
    things: DataSource, tokenizer: WordTokenizer
) -> None:
    dataset = Dataset(things, "train", tokenizer, 30)
    few = dataset.some_features(5)
    assert 1 <= len(few) <= 5
    assert np.array_equal(few[0], dataset.features(0))
    assert len(dataset.some_features(10_000)) == len(dataset.examples)


def test_a_long_target_is_cut_and_still_ends(things: DataSource, tokenizer: WordTokenizer) -> None:
    dataset = Dataset(things, "train", tokenizer, 2)
    batch = dataset.batch(range(len(dataset)))
    assert set(batch.num_targets.tolist()) == {3}
    assert set(batch.targets[:, 2].tolist()) == {EOS_ID}


def test_quarantined_items_are_left_out_and_counted(
    tmp_path: Path, tokenizer: WordTokenizer
) -> None:
    data = write_data(tmp_path, coloured_things(20), quarantined=("item 1", "item 3", "item 5"))
    train, val = (Dataset(data, split, tokenizer, 30) for split in ("train", "val"))
    assert (train.num_left_out, val.num_left_out) == (2, 1)
    assert len(train.examples) == 16 - 2
    assert not {e.item_key for e in train.examples} & {"item 1", "item 3"}


def test_a_split_that_is_all_in_quarantine_is_refused(
    tmp_path: Path, tokenizer: WordTokenizer
) -> None:
    gone = [f"item {n}" for n in range(0, 20, 5)]
    data = write_data(tmp_path, coloured_things(20), quarantined=gone)
    with pytest.raises(UserError, match="split 'val' is in quarantine"):
        Dataset(data, "val", tokenizer, 30)


def test_an_item_that_the_store_never_saw_is_refused_by_name(
    tmp_path: Path, tokenizer: WordTokenizer
) -> None:
    data = write_data(tmp_path, coloured_things(20))
    fewer = write_features(tmp_path / "fewer", coloured_things(19))
    with pytest.raises(UserError, match=r"fewer.*'item 19'.*precompute"):
        Dataset(describe_data(data.corpus, fewer), "train", tokenizer, 30)


def test_features_of_another_make_are_refused(tmp_path: Path, tokenizer: WordTokenizer) -> None:
    data = write_data(tmp_path, coloured_things(20))
    other = write_features(tmp_path / "other", coloured_things(20), weights="f")
    with pytest.raises(UserError, match=rf"other: features are .*{'f' * 64}.*{'0' * 64}"):
        now = describe_data(data.corpus, other)
        now = replace(now, features_fingerprint=data.features_fingerprint)
        Dataset(now, "train", tokenizer, 30)


def test_a_store_that_has_changed_since_is_read_as_it_was_and_told_apart(
    tmp_path: Path, tokenizer: WordTokenizer
) -> None:
    data = write_data(tmp_path, coloured_things(20))
    check_unchanged(data)
    store = FeatureStore(data.features)
    first, *rest = store.snapshot.records()
    gone = ItemRecord(first.key, first.source, first.view, stage="decode", error="missing")
    publish(store.path, replace(store.snapshot, table=table_of([gone, *rest])))
    now = describe_data(data.corpus, data.features)
    assert Dataset(data, "val", tokenizer, 30).num_left_out == 0
    assert Dataset(now, "val", tokenizer, 30).num_left_out == 1
    with pytest.raises(UserError, match=f"snapshot was {data.snapshot}"):
        check_unchanged(data)


def test_an_example_without_an_item_is_refused_by_name(
    tmp_path: Path, things: DataSource, tokenizer: WordTokenizer
) -> None:
    write_corpus(
        tmp_path,
        [Item("item 1", "1.mp4", "video")],
        [
            Example("seen", "train", "item 1", None, ("a ball",)),
            Example("read", "train", None, "ein Ball", ("a ball",)),
        ],
    )
    with pytest.raises(UserError, match=r"example 'read' has no item"):
        Dataset(replace(things, corpus=str(tmp_path)), "train", tokenizer, 30)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(
    things: DataSource, tokenizer: WordTokenizer
) -> None:
    with pytest.raises(UserError, match=r"'test'.*val.*train"):
        Dataset(things, "test", tokenizer, 30)


def test_the_vocabulary_knows_the_training_split_alone(tmp_path: Path) -> None:
    shown = coloured_things(20)
    shown[0] = replace(shown[0], targets=("a violet ball",))
    data = write_data(tmp_path, shown)
    sentences = training_sentences(data.corpus, "train")
    assert len(sentences) == sum(len(s.targets) for s in shown if s.split == "train")
    words = WordTokenizer.train(sentences, 1)
    val = Dataset(data, "val", words, 30)
    assert val.batch([0]).targets[0].tolist()[1] == UNK_ID


def test_data_is_described_by_what_it_is(things: DataSource) -> None:
    described = describe_data(things.corpus, things.features)
    assert described == things
    assert described.feature_dim == DIM
    assert described.corpus_fingerprint == Corpus(things.corpus).fingerprint()
    assert '"weights_sha256": "000' in described.features_fingerprint
