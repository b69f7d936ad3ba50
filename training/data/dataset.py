"""A corpus joined with its features: the only module of the training that touches the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Example
from pipeline.errors import UserError
from pipeline.files import features_of_file
from pipeline.location import AnyPath
from pipeline.store import FeatureStore
from training.data.batch import Batch, make_batch
from training.data.tokenizer import WordTokenizer


@dataclass(frozen=True, slots=True)
class DataSource:
    """Where a training's data lies and what it is.

    Attributes:
        corpus: the folder.
        corpus_fingerprint: of every row of it.
        features: the store.
        snapshot: of the store.
        features_fingerprint: what the features are made of, as JSON.
        feature_dim: D.
    """

    corpus: str
    corpus_fingerprint: str
    features: str
    snapshot: str
    features_fingerprint: str
    feature_dim: int


def describe_data(corpus: AnyPath | str, features: AnyPath | str) -> DataSource:
    """Look at a corpus and a store.

    Raises:
        UserError: one of them is not what it should be.
    """
    store, source = FeatureStore(features), Corpus(corpus)
    if store.snapshot.fingerprint.features != "pooled":
        raise UserError(
            f"{store.path}: {store.snapshot.fingerprint.features} features, allowed: pooled"
        )
    return DataSource(
        corpus=str(source.path.absolute()),
        corpus_fingerprint=source.fingerprint(),
        features=str(store.path.absolute()),
        snapshot=store.snapshot_id,
        features_fingerprint=store.snapshot.fingerprint.features_json(),
        feature_dim=store.snapshot.fingerprint.dim,
    )


def check_unchanged(data: DataSource) -> None:
    """Make sure that a corpus and a store are still what they were when a run began.

    Raises:
        UserError: one of them has changed.
    """
    now = describe_data(data.corpus, data.features)
    for field in ("corpus_fingerprint", "snapshot", "features_fingerprint"):
        was, found = getattr(data, field), getattr(now, field)
        if was != found:
            raise UserError(
                f"{field} was {was} when the run began and is {found}; "
                "a training goes on with the data it began with"
            )


def feature_maker(source: DataSource) -> Callable[[Path], NDArray[np.float32]]:
    """A function that makes features for a new file as those of a training were made: [T, D].

    Raises:
        UserError: they can't be made so on this machine; the function: the file can't be decoded.
    """
    return features_of_file(source.features_fingerprint)


def training_sentences(corpus: AnyPath | str, split: str) -> list[str]:
    """Every target of a split: what a vocabulary is built from."""
    return [target for example in Corpus(corpus).examples(split) for target in example.targets]


class Dataset:
    """The examples of one split with the features of their items.

    A row is one target of one example: an example with five references is five rows. Examples whose
    item is in quarantine are left out and counted.

    Args:
        source: the corpus and the store.
        split: of the corpus.
        tokenizer: of the targets.
        max_words: a longer target is cut.

    Attributes:
        examples: that have features, in the corpus' order.
        num_left_out: examples whose item is in quarantine.

    Raises:
        UserError: an example has no item, or one that the store never saw.
    """

    def __init__(
        self, source: DataSource, split: str, tokenizer: WordTokenizer, max_words: int
    ) -> None:
        self._store = FeatureStore(source.features, source.snapshot)
        found = self._store.snapshot.fingerprint.features_json()
        if found != source.features_fingerprint:
            raise UserError(
                f"{source.features}: features are {found}, "
                f"the model was trained on {source.features_fingerprint}"
            )
        examples = Corpus(source.corpus).examples(split)
        for example in examples:
            if example.item_key is None:
                raise UserError(f"{source.corpus}: example {example.id!r} has no item to look at")
            if self._store.record(example.item_key) is None:
                raise UserError(
                    f"{source.features}: has nothing on item {example.item_key!r} of "
                    f"{source.corpus}; run `intertitle precompute` again"
                )
        self.examples: tuple[Example, ...] = tuple(
            e for e in examples if str(e.item_key) in self._store
        )
        self.num_left_out = len(examples) - len(self.examples)
        if not self.examples:
            raise UserError(f"{source.corpus}: every item of split {split!r} is in quarantine")
        owners = [(n, target) for n, e in enumerate(self.examples) for target in e.targets]
        self._owners = [n for n, _ in owners]
        self._sentences = [
            ids[:max_words] for ids in tokenizer.encode_all([target for _, target in owners])
        ]
        frames = [self._store.num_frames(str(example.item_key)) for example in self.examples]
        self.lengths: NDArray[np.int64] = np.array(
            [frames[n] + len(s) + 1 for n, s in zip(self._owners, self._sentences, strict=True)]
        )

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._sentences)

    def features(self, example: int) -> NDArray[np.float32]:
        """Of one example's item, [T, D]."""
        return self._store.features(str(self.examples[example].item_key))

    def some_features(self, num_examples: int) -> list[NDArray[np.float32]]:
        """The features of at most so many examples, evenly spaced, [T, D] each."""
        every = -(-len(self.examples) // num_examples)
        return [self.features(n) for n in range(0, len(self.examples), every)]

    def num_targets(self, rows: NDArray[np.int64]) -> int:
        """Words and <eos> of some rows."""
        return sum(len(self._sentences[row]) + 1 for row in rows)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Rows with their targets, for training."""
        return make_batch(
            [self.features(self._owners[row]) for row in rows],
            [self._sentences[row] for row in rows],
        )

    def questions(self, examples: Sequence[int] | range) -> Batch:
        """Examples without their targets, for a model to find them."""
        return make_batch([self.features(n) for n in examples], [() for _ in examples])
