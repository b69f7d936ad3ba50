"""A corpus joined with its features."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store import store as store_module
from intertitle.pipeline.feature_store.snapshot import (
    ItemRecord,
    Snapshot,
    publish,
    read_snapshot,
    table_of,
)
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.training.data.arrays import flat_features
from intertitle.training.data.arrays.ragged import Examples
from intertitle.training.data.batch import Batch
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import Dataset, open_dataset
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.pinning import check_unchanged
from intertitle.training.data.task import Task, VisualInput
from intertitle.training.data.texts import lines_of, texts_of
from intertitle.training.data.tokenizer import EOS_ID, UNK_ID, Tokenizer
from intertitle.training.data.vocab import Vocabs
from tests.training.conftest import (
    DIM,
    SEEN,
    Shown,
    coloured_things,
    features_of,
    open_data_ref,
    questions,
    small_recipe,
    split_of,
    write_data,
    write_features,
)

READS = Task("nothing", has_source=True, output="sentence")


def test_a_row_is_one_target_with_the_features_of_its_item(things: DataRef, words: Vocabs) -> None:
    dataset = split_of(things, "train", words, 30)
    shown = [one for one in coloured_things(60) if one.split == "train"]
    wanted = [(s.features, target) for s in shown for target in s.targets]
    assert len(dataset) == len(wanted) > len(shown) == len(dataset.examples)
    for row, (features, target) in enumerate(wanted):
        batch = dataset.batch([row])
        ids = words.target.encode(target)
        assert np.array_equal(batch.features[0], features)
        assert batch.targets[0].tolist() == [*ids, EOS_ID]
        assert dataset.lengths[row] == len(features) + len(ids) + 1
    assert dataset.num_targets(np.array([0, 1])) == int(dataset.batch([0, 1]).target_lengths.sum())


def test_a_question_shows_the_item_and_not_the_answer(things: DataRef, words: Vocabs) -> None:
    dataset = split_of(things, "val", words, 30)
    batch = questions(dataset, range(3))
    assert batch.target_lengths.tolist() == [1, 1, 1]
    assert np.array_equal(batch.features[2, : batch.frame_lengths[2]], dataset.features(2))


def test_some_features_are_spread_over_the_split(things: DataRef, words: Vocabs) -> None:
    dataset = split_of(things, "train", words, 30)
    few = dataset.sample_features(5)
    assert 1 <= len(few) <= 5
    assert np.array_equal(few[0], dataset.features(0))
    assert len(dataset.sample_features(10_000)) == len(dataset.examples)


def test_a_long_target_is_cut_and_still_ends(things: DataRef, words: Vocabs) -> None:
    dataset = split_of(things, "train", words, 2)
    batch = dataset.batch(range(len(dataset)))
    assert set(batch.target_lengths.tolist()) == {3}
    assert set(batch.targets[:, 2].tolist()) == {EOS_ID}


def test_texts_that_are_cut_are_counted(things: DataRef, words: Vocabs, tmp_path: Path) -> None:
    num = sum(len(one.targets) for one in coloured_things(60) if one.split == "train")
    assert split_of(things, "train", words, 5).warnings == ()
    assert split_of(things, "train", words, 2).warnings == (
        f"{num} of {num} targets of 'train' are longer than 2 tokens and were cut, the longest has "
        "5: tokenizer.max_tokens allows more",
    )
    sources = ["a b c d", "a b", "a"]
    write_corpus(tmp_path, [], [Example(s, "val", None, s, ("a",)) for s in sources])
    known = Vocabs(Tokenizer.captions(["a"], min_count=1), Tokenizer.captions(sources, min_count=1))
    data = open_data_ref(tmp_path, None, "nothing")
    (warning,) = Dataset(Data(data), "val", READS, known, 2, 2).warnings
    assert warning.startswith("1 of 3 sources of 'val' are longer than 2 tokens")
    assert "source_tokenizer.max_tokens, or --max-source-tokens" in warning


def test_quarantined_items_are_left_out_and_counted(tmp_path: Path, words: Vocabs) -> None:
    data = write_data(tmp_path, coloured_things(20), quarantined=("item 1", "item 3", "item 5"))
    train, val = (split_of(data, split, words, 30) for split in ("train", "val"))
    assert (train.left_out, val.left_out) == (("about-item 1", "about-item 3"), ("about-item 5",))
    assert len(train.examples) == 16 - 2
    assert not {e.item_key for e in train.examples} & {"item 1", "item 3"}


def test_a_pickled_split_has_its_texts_and_opens_one_store_when_features_are_read(
    tmp_path: Path, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(write_data(tmp_path, coloured_things(20)))
    first = [Dataset(data, split, SEEN, words, 30, 30) for split in ("train", "val")]
    shutil.rmtree(data.ref.corpus)
    opened = []

    def read(*arguments: Any) -> Snapshot:
        opened.append(arguments)
        return read_snapshot(*arguments)

    monkeypatch.setattr(store_module, "read_snapshot", read)
    # As a pickled copy is made.
    second = copy.deepcopy(first)
    assert [[*split.examples] for split in second] == [[*split.examples] for split in first]
    assert not opened
    for one, other in zip(first, second, strict=True):
        assert np.array_equal(one.features(0), other.features(0))
        assert np.array_equal(one.batch([0]).targets, other.batch([0]).targets)
    assert len(opened) == 1


def test_a_split_that_is_all_in_quarantine_is_refused(tmp_path: Path, words: Vocabs) -> None:
    gone = [f"item {n}" for n in range(0, 20, 5)]
    data = write_data(tmp_path, coloured_things(20), quarantined=gone)
    with pytest.raises(UserError, match="split 'val' is in quarantine"):
        split_of(data, "val", words, 30)


def test_an_item_that_the_store_never_saw_is_refused_by_name(tmp_path: Path, words: Vocabs) -> None:
    data = write_data(tmp_path, coloured_things(20))
    fewer = write_features(tmp_path / "fewer", coloured_things(19))
    with pytest.raises(UserError, match=r"fewer.*'item 19'.*precompute"):
        split_of(open_data_ref(data.corpus, fewer, "pooled"), "train", words)


def test_features_of_another_make_are_refused(tmp_path: Path, words: Vocabs) -> None:
    data = write_data(tmp_path, coloured_things(20))
    other = write_features(tmp_path / "other", coloured_things(20), weights="f")
    with pytest.raises(UserError, match=rf"other: features are .*{'f' * 64}.*{'0' * 64}"):
        make = replace(
            features_of(open_data_ref(data.corpus, other, "pooled")),
            fingerprint=features_of(data).fingerprint,
        )
        split_of(replace(data, features=(make,)), "train", words)


def test_a_store_that_has_changed_since_is_read_as_it_was_and_told_apart(
    tmp_path: Path, words: Vocabs
) -> None:
    data = write_data(tmp_path, coloured_things(20))
    check_unchanged(data)
    store = FeatureStore(features_of(data).path)
    first, *rest = store.snapshot.records()
    gone = ItemRecord(first.key, first.source, first.selection, stage="decode", error="missing")
    publish(store.path, replace(store.snapshot, table=table_of([gone, *rest])))
    now = open_data_ref(data.corpus, features_of(data).path, "pooled")
    assert split_of(data, "val", words, 30).left_out == ()
    assert len(split_of(now, "val", words, 30).left_out) == 1
    with pytest.raises(UserError, match=f"snapshot was {features_of(data).snapshot}"):
        check_unchanged(data)


def test_an_example_without_an_item_is_refused_by_name(
    tmp_path: Path, things: DataRef, words: Vocabs
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
        split_of(replace(things, corpus=str(tmp_path)), "train", words)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(
    things: DataRef, words: Vocabs
) -> None:
    with pytest.raises(UserError, match=r"'test'.*val.*train"):
        split_of(things, "test", words, 30)


def test_the_vocabulary_knows_the_training_split_alone(tmp_path: Path) -> None:
    shown = coloured_things(20)
    shown[0] = replace(shown[0], targets=("a violet ball",))
    data = write_data(tmp_path, shown)
    sentences, sources = texts_of(Corpus(data.corpus), "train", SEEN)
    assert sources is None
    assert len(sentences) == sum(len(s.targets) for s in shown if s.split == "train")
    val = split_of(data, "val", Vocabs(Tokenizer.captions(sentences, min_count=1)))
    assert val.batch([0]).targets[0].tolist()[1] == UNK_ID


def test_data_is_described_by_what_it_is(things: DataRef) -> None:
    described = open_data_ref(things.corpus, features_of(things).path, "pooled")
    assert described == things
    assert described.feature_dim == DIM
    assert described.corpus_fingerprint == Corpus(things.corpus).fingerprint()
    assert '"weights_sha256": "000' in features_of(described).fingerprint


@pytest.mark.parametrize(
    ("sees", "store", "named"),
    [
        ("nothing", "features", "reads text alone"),
        ("pooled", None, "--features: missing"),
        ("grid", "features", "pooled features, this recipe sees grid ones"),
    ],
)
def test_features_that_a_recipe_does_not_want_are_refused(
    things: DataRef, sees: VisualInput, store: str | None, named: str
) -> None:
    with pytest.raises(UserError, match=named):
        open_data_ref(things.corpus, store and features_of(things).path, sees)


def write_texts(folder: Path, *rows: tuple[str, str | None, tuple[str, ...]]) -> DataRef:
    """A corpus of text: each row an id, a source and targets; all of them "train"."""
    write_corpus(folder, [], [Example(name, "train", None, *texts) for name, *texts in rows])
    return open_data_ref(folder, None, "nothing")


NAMED = Task("nothing", has_source=True, output="label")


def test_a_label_is_one_row_and_the_commonest_answer(tmp_path: Path) -> None:
    data = write_texts(
        tmp_path, ("1", "what is it", ("cat", "dog", "dog")), ("2", "is it", ("yes",))
    )
    texts, sources = texts_of(Corpus(data.corpus), "train", NAMED)
    assert (texts, sources) == (["dog", "yes"], ["what is it", "is it"])
    vocabularies = Vocabs(
        Tokenizer.labels(["dog", "dog"], size=1),
        Tokenizer.words(sources, min_count=1, lowercase=True),
    )
    dataset = Dataset(Data(data), "train", NAMED, vocabularies, 2, 30)
    # "yes" is no label that is known: there is nothing to learn from it, but it is measured.
    assert (len(dataset), len(dataset.examples)) == (1, 2)
    batch = dataset.batch([0])
    assert vocabularies.target.decode(batch.targets[0].tolist()) == "dog"
    assert vocabularies.source is not None
    assert vocabularies.source.decode(batch.source[0].tolist()) == "what is"
    assert dataset.lengths.tolist() == [3]


def test_an_example_without_a_source_is_refused_by_name(tmp_path: Path) -> None:
    data = write_texts(tmp_path, ("mute", None, ("yes",)))
    with pytest.raises(UserError, match="example 'mute' has no source"):
        texts_of(Corpus(data.corpus), "train", NAMED)


TAGGED = Task("pooled", has_source=False, output="label_per_frame")


@pytest.mark.parametrize("num_labels", [4, 3])
def test_tags_are_one_label_a_frame_and_nothing_else(tmp_path: Path, num_labels: int) -> None:
    shown = replace(
        coloured_things(2)[1],
        features=np.ones((4, DIM), np.float32),
        targets=("up", "up", "down", "up")[:num_labels],
    )
    data = write_data(tmp_path, [shown])
    tags = Vocabs(Tokenizer.labels(["up", "down"], size=2))
    if num_labels == 3:
        with pytest.raises(UserError, match=r"3 labels, its item 4 frames.*--every 1"):
            split_of(data, "train", tags, task=TAGGED)
        return
    dataset = split_of(data, "train", tags, task=TAGGED)
    told = [tags.target.decode([label]) for label in dataset.batch([0]).targets[0].tolist()]
    assert told == ["up", "up", "down", "up"]
    assert dataset.num_targets(np.array([0])) == 4


def test_running_text_has_the_blank_lines_of_its_file(tmp_path: Path) -> None:
    data = write_texts(
        tmp_path,
        ("a.txt:000000002", None, ("one",)),
        ("a.txt:000000005", None, ("two",)),
        ("b.txt:000000009", None, ("three",)),
    )
    assert list(lines_of(Corpus(data.corpus), "train")) == ["one", "", "", "two", "three"]
    recipe = small_recipe("char_lm")
    spelled = Vocabs(Tokenizer.characters(["one two three"], min_count=1))
    dataset = open_dataset(
        Data(data), "train", recipe, Task("nothing", has_source=False, output="stream"), spelled
    )
    assert isinstance(dataset, LanguageModelDataset)
    assert int(dataset.lengths.sum()) == len("one\n\n\ntwo\nthree\n")


@pytest.mark.parametrize("kind", ["captions", "grids", "translation", "questions", "tags"])
def test_a_gathered_batch_is_that_of_its_rows_one_by_one(kind: str, tmp_path: Path) -> None:
    rng, known = np.random.default_rng(0), [f"w{n}" for n in range(30)]

    def text() -> str:
        return " ".join(known[n] for n in rng.integers(30, size=rng.integers(1, 9)))

    shown, examples = [], []
    for n in range(30):
        num_frames = int(rng.integers(1, 4)) if kind != "questions" else 1
        shape = (num_frames, 4, DIM) if kind == "grids" else (num_frames, DIM)
        targets = {
            "captions": tuple(text() for _ in range(n % 4 + 1)),
            "tags": tuple(known[n] for n in rng.integers(4, size=num_frames)),
        }.get(kind, (text(),))
        shown.append(Shown(f"item {n}", "train", rng.random(shape, np.float32), targets))
        # Several questions about an item.
        key = None if kind == "translation" else f"item {n % 7 if kind == 'questions' else n}"
        source = text() if kind in ("translation", "questions") else None
        examples.append(Example(f"{n}", "train", key, source, targets))
    data = write_data(tmp_path, shown)
    write_corpus(tmp_path / "corpus", [Item(s.key, "1.mp4", "video") for s in shown], examples)
    data = open_data_ref(
        tmp_path / "corpus",
        None if kind == "translation" else features_of(data).path,
        {"translation": "nothing", "grids": "grid"}.get(kind, "pooled"),  # type: ignore[arg-type]
    )
    words, labels = Tokenizer.captions(known, min_count=1), Tokenizer.labels(known[:4], size=4)
    task, vocabularies = {
        "captions": (SEEN, Vocabs(words)),
        "grids": (Task("grid", has_source=False, output="sentence"), Vocabs(words)),
        "translation": (READS, Vocabs(words, words)),
        "questions": (
            Task("pooled", has_source=True, output="sentence"),
            Vocabs(words, words),
        ),
        "tags": (TAGGED, Vocabs(labels)),
    }[kind]
    dataset = Dataset(Data(data), "train", task, vocabularies, 5, 6)
    dataset.weights = rng.random(len(dataset), np.float32)
    for num in (1, 2, 7, len(dataset)):
        rows = rng.permutation(len(dataset))[:num]
        pairs = zip(dataset.example_index(rows), dataset.targets(rows), strict=True)
        expected = dataset.with_targets(list(pairs))
        expected = replace(expected, weights=torch.from_numpy(dataset.weights[rows]))
        batch = dataset.batch(rows)
        assert batch.source_padded == expected.source_padded
        for name in set(Batch.__slots__) - {"source_padded"}:
            got, wanted = getattr(batch, name), getattr(expected, name)
            assert got.dtype == wanted.dtype, name
            assert torch.equal(got, wanted), name


def test_features_too_large_to_copy_are_gathered_from_their_files(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, mapped = (split_of(things, "train", words) for _ in range(2))
    rows = np.arange(len(copied))[::-1]
    expected = copied.batch(rows).features
    monkeypatch.setattr(flat_features, "MAX_COPIED_BYTES", 0)
    assert torch.equal(mapped.batch(rows).features, expected)


def test_examples_of_a_table_are_those_of_the_corpus(things: DataRef) -> None:
    corpus = Corpus(things.corpus)
    expected, examples = corpus.examples("train"), Examples(corpus.example_table("train"))
    assert list(examples) == expected
    assert [examples[n] for n in range(len(examples))] == expected
    assert (examples[-1], examples[2:5]) == (expected[-1], tuple(expected[2:5]))
    is_odd = np.arange(len(expected)) % 2 == 1
    assert list(examples.where(is_odd)) == expected[1::2]
    with pytest.raises(IndexError):
        examples[len(expected)]
