"""Datasets that join a corpus with its features and return batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Corpus, Example
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.training.config.recipe import Recipe, TrainingConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.data_ref import DataRef, FeatureRef, lines_of, source_of, targets_of
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import BatchSampler, Sampler, StreamSampler
from intertitle.training.data.task import Task
from intertitle.training.data.tokenizer import UNK_ID, Tokenizer
from intertitle.training.data.truncation import describe_cut
from intertitle.training.data.vocab import Vocabs


def open_dataset(
    source: DataRef, split: str, recipe: Recipe, task: Task, vocabularies: Vocabs
) -> Dataset | LanguageModelDataset:
    """Open the dataset of a split, with the settings of a recipe.

    Raises:
        UserError: the data does not fit the task.
    """
    if task.output == "stream":
        settings = recipe.training
        if settings.accumulate > 1:
            raise UserError(
                f"training.accumulate: {settings.accumulate}, allowed: 1 for running text, whose "
                "streams are read in parallel"
            )
        lines = vocabularies.target.encode_all(list(lines_of(source.corpus, split, source.pin)))
        return LanguageModelDataset(
            lines, max(1, settings.batch_tokens // settings.window), settings.window
        )
    max_source, max_target = recipe.source_tokenizer.max_tokens, recipe.tokenizer.max_tokens
    return Dataset(source, split, task, vocabularies, max_source, max_target)


class Dataset:
    """The examples of one split, with the features of their items.

    A row is one target of one example: an example with five references has five rows, an example
    with labels has one row. Examples whose item is in quarantine are skipped and counted. A row
    with a label that is not in the vocabulary can't be learned from and is skipped, but its example
    is still evaluated.

    Args:
        source: reference to the corpus and the feature store.
        split: split of the corpus.
        task: inputs and output of the model.
        vocabularies: tokenizers of the texts.
        max_source: maximum number of source tokens; longer sources are truncated.
        max_target: maximum number of target tokens; longer sentences are truncated.

    Attributes:
        task: task that was passed.
        vocabularies: tokenizers that were passed.
        examples: examples that have features, in the order of the corpus.
        left_out: ids of examples whose item is in quarantine.
        target_language: language of the targets; None if the corpus does not define it.
        warnings: warnings about texts that were truncated.
        lengths: number of frames, source and target tokens of each row, [rows].

    Raises:
        UserError: an example lacks what the task needs, or the store has no record of its item.
    """

    def __init__(
        self,
        source: DataRef,
        split: str,
        task: Task,
        vocabularies: Vocabs,
        max_source: int,
        max_target: int,
    ) -> None:
        self.task, self.vocabularies = task, vocabularies
        self.target_language = source.target_language
        self.warnings: tuple[str, ...] = ()
        self._split = split
        examples = Corpus(source.corpus, source.pin).examples(split)
        self._store = _open_store(source.features) if source.features else None
        has_features = [_has_features(example, self._store, source.corpus) for example in examples]
        self.examples: tuple[Example, ...] = tuple(compress(examples, has_features))
        self.left_out = tuple(
            e.id for e, has in zip(examples, has_features, strict=True) if not has
        )
        if not self.examples:
            raise UserError(f"{source.corpus}: every item of split {split!r} is in quarantine")
        self._sources: list[list[int]] = [[] for _ in self.examples]
        if task.has_source:
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
            if task.output == "sentence" or UNK_ID not in ids
        ]
        if not rows:
            raise UserError(
                f"{source.corpus}: split {split!r}: none of its labels is in the vocabulary"
            )
        self._owners = [owner for owner, _ in rows]
        self._targets = [ids for _, ids in rows]
        self._ends = int(task.output == "sentence")
        self.lengths: NDArray[np.int64] = np.array(
            [
                self._frames[owner] + len(self._sources[owner]) + len(ids) + self._ends
                for owner, ids in rows
            ]
        )

    def _encoded_targets(
        self, tokenizer: Tokenizer, max_target: int
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield the rows: the index of an example and the tokens of one of its targets."""
        owners = [
            (n, target) for n, e in enumerate(self.examples) for target in targets_of(e, self.task)
        ]
        encoded = tokenizer.encode_all([target for _, target in owners])
        if self.task.output != "label_per_frame":
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
                    f"{frames} frames in the store: one per frame is needed "
                    "(`intertitle precompute --every 1`)"
                )
            yield owner, [next(labels)[0] for _ in range(frames)]

    def _num_frames(self, example: Example) -> int:
        return self._store.num_frames(str(example.item_key)) if self._store else 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._targets)

    def question_length(self, example: int) -> int:
        """Return the number of frames and source tokens of an example."""
        return self._frames[example] + len(self._sources[example])

    def features(self, example: int) -> NDArray[np.float32] | None:
        """Return the features of an example, [T, D] or [T, cells, D]; None without visual input."""
        if self._store is None:
            return None
        return self._store.features(str(self.examples[example].item_key))

    def sample_features(self, num_examples: int) -> list[NDArray[np.float32]]:
        """Return the features of at most `num_examples` examples, evenly spaced.

        The list is empty if the task has no visual input.
        """
        step = -(-len(self.examples) // num_examples)
        all_features = (self.features(n) for n in range(0, len(self.examples), step))
        return [features for features in all_features if features is not None]

    def num_targets(self, rows: NDArray[np.int64]) -> int:
        """Return the number of targets of the rows: tokens and <eos>, or labels."""
        return sum(len(self._targets[row]) + self._ends for row in rows)

    def example_index(self, rows: NDArray[np.int64]) -> list[int]:
        """Return the index of each row's example."""
        return [self._owners[row] for row in rows]

    def targets(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """Return the target tokens of each row, without <bos> and <eos>."""
        return [self._targets[row] for row in rows]

    def references(self) -> list[list[list[int]]]:
        """Return the reference sentences of each example, as tokens."""
        references: list[list[list[int]]] = [[] for _ in self.examples]
        for owner, ids in zip(self._owners, self._targets, strict=True):
            references[owner].append(ids)
        return references

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return a batch of rows with their targets, for training."""
        return self.with_targets([(self._owners[row], self._targets[row]) for row in rows])

    def questions(self, examples: Sequence[int] | range) -> Batch:
        """Return a batch of examples without targets, for prediction."""
        return self.with_targets([(n, []) for n in examples])

    def with_targets(self, rows: Sequence[tuple[int, Sequence[int]]]) -> Batch:
        """Return a batch of examples with arbitrary targets.

        Args:
            rows: pairs of an example's index and the tokens of its target, without <bos> and <eos>.
        """
        return make_batch(
            [Row(self.features(n), self._sources[n], ids) for n, ids in rows],
            sentences=self.task.output == "sentence",
        )


class Items:
    """The items of a corpus with their features, whether or not they have examples.

    Args:
        corpus: folder or URL of the corpus.
        source: reference to the features.

    Attributes:
        keys: keys of the items that have features, in the order of the corpus.
        left_out: keys of the items in quarantine.

    Raises:
        UserError: there is no item, the store has no record of an item, or every item is in
            quarantine.
    """

    def __init__(self, corpus: str, source: FeatureRef) -> None:
        self._store = _open_store(source)
        keys = Corpus(corpus).item_table()["key"].to_pylist()
        has_features = [_is_stored(key, self._store, corpus) for key in keys]
        self.keys: tuple[str, ...] = tuple(compress(keys, has_features))
        self.left_out = tuple(key for key, has in zip(keys, has_features, strict=True) if not has)
        if not self.keys:
            raise UserError(f"{corpus}: {'every item is in quarantine' if keys else 'no items'}")

    def num_frames(self, item: int) -> int:
        """Return the number of frames of the item with this index in `keys`."""
        return self._store.num_frames(self.keys[item])

    def features(self, item: int) -> NDArray[np.float32]:
        """Return the features of the item with this index in `keys`, [T, D] or [T, cells, D]."""
        return self._store.features(self.keys[item])


def _open_store(features: FeatureRef) -> FeatureStore:
    store = FeatureStore(features.path, features.snapshot)
    fingerprint = store.snapshot.fingerprint.features_json()
    if fingerprint != features.fingerprint:
        raise UserError(
            f"{features.path}: features are {fingerprint}, the model was trained on "
            f"{features.fingerprint}"
        )
    return store


def _has_features(example: Example, store: FeatureStore | None, corpus: str) -> bool:
    if store is None:
        return True
    if example.item_key is None:
        raise UserError(f"{corpus}: example {example.id!r} has no item to look at")
    return _is_stored(example.item_key, store, corpus)


def _is_stored(key: str, store: FeatureStore, corpus: str) -> bool:
    """Return whether the store has the features of an item; otherwise it must be in quarantine.

    Raises:
        UserError: the store has no record of the item.
    """
    if key in store:
        return True
    if store.record(key) is None:
        raise UserError(
            f"{store.path}: has nothing on item {key!r} of {corpus}; "
            "run `intertitle precompute` again"
        )
    return False


def make_sampler(dataset: Dataset | LanguageModelDataset, settings: TrainingConfig) -> Sampler:
    """Create the sampler that selects the rows of each batch of a split."""
    if isinstance(dataset, LanguageModelDataset):
        return StreamSampler(dataset, settings.seed)
    return BatchSampler(
        dataset.lengths, settings.batch_tokens, settings.pool_batches, settings.seed
    )
