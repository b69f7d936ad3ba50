"""A corpus joined with its features, as rows of batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Example
from pipeline.errors import UserError
from pipeline.store import FeatureStore
from training.config import Recipe, TrainingConfig
from training.data.batch import Batch, Row, make_batch
from training.data.cutting import describe_cut
from training.data.sampler import BatchSampler, Sampler, StreamSampler
from training.data.source import DataSource, FeatureSource, lines_of, source_of, targets_of
from training.data.stream import StreamDataset
from training.data.task import Task
from training.data.tokenizer import UNK_ID, Tokenizer
from training.data.vocabularies import Vocabularies


def open_dataset(
    source: DataSource, split: str, recipe: Recipe, task: Task, vocabularies: Vocabularies
) -> Dataset | StreamDataset:
    """A split as a recipe wants it.

    Raises:
        UserError: the data is not what the task needs.
    """
    if task.tells == "stream":
        settings = recipe.training
        if settings.accumulate > 1:
            raise UserError(
                f"training.accumulate: {settings.accumulate}, allowed: 1 for running text, whose "
                "lanes are read together"
            )
        lines = vocabularies.target.encode_all(list(lines_of(source.corpus, split, source.pin)))
        return StreamDataset(
            lines, max(1, settings.batch_tokens // settings.window), settings.window
        )
    max_source, max_target = recipe.source_tokenizer.max_tokens, recipe.tokenizer.max_tokens
    return Dataset(source, split, task, vocabularies, max_source, max_target)


class Dataset:
    """The examples of one split, with the features of their items.

    A row is one target of one example: an example with five references is five rows. Labels are one
    row an example. Examples whose item is in quarantine are left out and counted; a row with a
    label that the vocabulary lacks teaches nothing and is no row, though its example is measured.

    Args:
        source: the corpus and the store.
        split: of the corpus.
        task: what is read and told.
        vocabularies: of the texts.
        max_source: a longer source is cut.
        max_target: a longer sentence is cut.

    Attributes:
        task: as given.
        vocabularies: as given.
        examples: that have features, in the corpus' order.
        left_out: the ids of examples whose item is in quarantine.
        target_language: of the sentences, if the corpus names it.
        warnings: of texts that were cut.
        lengths: frames, source and target tokens of each row, [rows].

    Raises:
        UserError: an example lacks what the task needs, or the store never saw its item.
    """

    def __init__(
        self,
        source: DataSource,
        split: str,
        task: Task,
        vocabularies: Vocabularies,
        max_source: int,
        max_target: int,
    ) -> None:
        self.task, self.vocabularies = task, vocabularies
        self.target_language = source.target_language
        self.warnings: tuple[str, ...] = ()
        self._split = split
        examples = Corpus(source.corpus, source.pin).examples(split)
        self._store = _open_store(source.features) if source.features else None
        kept = [_can_be_seen(example, self._store, source.corpus) for example in examples]
        self.examples: tuple[Example, ...] = tuple(compress(examples, kept))
        self.left_out = tuple(e.id for e, has in zip(examples, kept, strict=True) if not has)
        if not self.examples:
            raise UserError(f"{source.corpus}: every item of split {split!r} is in quarantine")
        self._sources: list[list[int]] = [[] for _ in self.examples]
        if task.reads:
            assert vocabularies.source is not None
            texts = [source_of(example, source.corpus) for example in self.examples]
            encoded = vocabularies.source.encode_all(texts)
            self.warnings += describe_cut(
                encoded, max_source, f"sources of {split!r}", "source_tokenizer"
            )
            self._sources = [ids[:max_source] for ids in encoded]
        self._frames = [self._num_frames(example) for example in self.examples]
        rows = [
            (owner, ids)
            for owner, ids in self._encoded_targets(vocabularies.target, max_target)
            if task.tells == "sentence" or UNK_ID not in ids
        ]
        if not rows:
            raise UserError(
                f"{source.corpus}: split {split!r}: none of its labels is in the vocabulary"
            )
        self._owners = [owner for owner, _ in rows]
        self._targets = [ids for _, ids in rows]
        self._ends = int(task.tells == "sentence")
        self.lengths: NDArray[np.int64] = np.array(
            [
                self._frames[owner] + len(self._sources[owner]) + len(ids) + self._ends
                for owner, ids in rows
            ]
        )

    def _encoded_targets(
        self, tokenizer: Tokenizer, max_target: int
    ) -> Iterator[tuple[int, list[int]]]:
        """The rows: an example's number and the tokens of one of its targets."""
        owners = [
            (n, target) for n, e in enumerate(self.examples) for target in targets_of(e, self.task)
        ]
        encoded = tokenizer.encode_all([target for _, target in owners])
        if self.task.tells != "label_per_frame":
            self.warnings += describe_cut(
                encoded, max_target, f"targets of {self._split!r}", "tokenizer"
            )
            for (owner, _), ids in zip(owners, encoded, strict=True):
                yield owner, ids[:max_target]
            return
        labels = iter(encoded)
        for owner, (example, frames) in enumerate(zip(self.examples, self._frames, strict=True)):
            if len(example.targets) != frames:
                raise UserError(
                    f"example {example.id!r} has {len(example.targets)} labels, its item "
                    f"{frames} frames in the store: one a frame is needed "
                    "(`intertitle precompute --every 1`)"
                )
            yield owner, [next(labels)[0] for _ in range(frames)]

    def _num_frames(self, example: Example) -> int:
        return self._store.num_frames(str(example.item_key)) if self._store else 0

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._targets)

    def question_length(self, example: int) -> int:
        """Frames and source tokens of an example."""
        return self._frames[example] + len(self._sources[example])

    def features(self, example: int) -> NDArray[np.float32] | None:
        """Of one example's item, [T, D] or [T, cells, D]; None where nothing is seen."""
        if self._store is None:
            return None
        return self._store.features(str(self.examples[example].item_key))

    def some_features(self, num_examples: int) -> list[NDArray[np.float32]]:
        """The features of at most so many examples, evenly spaced; none where nothing is seen."""
        every = -(-len(self.examples) // num_examples)
        some = (self.features(n) for n in range(0, len(self.examples), every))
        return [features for features in some if features is not None]

    def num_targets(self, rows: NDArray[np.int64]) -> int:
        """Tokens to tell of some rows: words and <eos>, or labels."""
        return sum(len(self._targets[row]) + self._ends for row in rows)

    def owners(self, rows: NDArray[np.int64]) -> list[int]:
        """The example that each row is of."""
        return [self._owners[row] for row in rows]

    def targets(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """The tokens of each row, without <bos> and <eos>."""
        return [self._targets[row] for row in rows]

    def references(self) -> list[list[list[int]]]:
        """The sentences of each example, as tokens."""
        references: list[list[list[int]]] = [[] for _ in self.examples]
        for owner, ids in zip(self._owners, self._targets, strict=True):
            references[owner].append(ids)
        return references

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Rows with their targets, for training."""
        return self.with_targets([(self._owners[row], self._targets[row]) for row in rows])

    def questions(self, examples: Sequence[int] | range) -> Batch:
        """Examples without their targets, for a model to find them."""
        return self.with_targets([(n, []) for n in examples])

    def with_targets(self, rows: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        """Examples, each with a target of anyone's: its tokens, without <bos> and <eos>."""
        return make_batch(
            [Row(self.features(n), self._sources[n], ids) for n, ids in rows],
            sentences=self.task.tells == "sentence",
        )


class Items:
    """The items of a corpus with their features, whether or not anything is said of them.

    Args:
        corpus: its folder or URL.
        source: of the features.

    Attributes:
        keys: of those that have features, in the corpus' order.
        left_out: of those in quarantine.

    Raises:
        UserError: there is no item, the store never saw one, or has features of none.
    """

    def __init__(self, corpus: str, source: FeatureSource) -> None:
        self._store = _open_store(source)
        keys = Corpus(corpus).item_table()["key"].to_pylist()
        kept = [_is_stored(key, self._store, corpus) for key in keys]
        self.keys: tuple[str, ...] = tuple(compress(keys, kept))
        self.left_out = tuple(key for key, has in zip(keys, kept, strict=True) if not has)
        if not self.keys:
            raise UserError(f"{corpus}: {'every item is in quarantine' if keys else 'no items'}")

    def num_frames(self, item: int) -> int:
        """Of one of `keys`."""
        return self._store.num_frames(self.keys[item])

    def features(self, item: int) -> NDArray[np.float32]:
        """Of one of `keys`, [T, D] or [T, cells, D]."""
        return self._store.features(self.keys[item])


def _open_store(features: FeatureSource) -> FeatureStore:
    store = FeatureStore(features.path, features.snapshot)
    found = store.snapshot.fingerprint.features_json()
    if found != features.fingerprint:
        raise UserError(
            f"{features.path}: features are {found}, the model was trained on "
            f"{features.fingerprint}"
        )
    return store


def _can_be_seen(example: Example, store: FeatureStore | None, corpus: str) -> bool:
    if store is None:
        return True
    if example.item_key is None:
        raise UserError(f"{corpus}: example {example.id!r} has no item to look at")
    return _is_stored(example.item_key, store, corpus)


def _is_stored(key: str, store: FeatureStore, corpus: str) -> bool:
    """Whether there are features of an item; if not, it has to be in quarantine."""
    if key in store:
        return True
    if store.record(key) is None:
        raise UserError(
            f"{store.path}: has nothing on item {key!r} of {corpus}; "
            "run `intertitle precompute` again"
        )
    return False


def make_sampler(dataset: Dataset | StreamDataset, settings: TrainingConfig) -> Sampler:
    """The batches of a split."""
    if isinstance(dataset, StreamDataset):
        return StreamSampler(dataset, settings.seed)
    return BatchSampler(
        dataset.lengths, settings.batch_tokens, settings.pool_batches, settings.seed
    )
