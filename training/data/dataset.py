"""Datasets that join a corpus with its features and return batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Example
from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe
from intertitle.training.config.samplers import BY_TOKENS, SAMPLERS
from intertitle.training.config.sections import TrainingConfig
from intertitle.training.data.arrays.flat_features import FlatFeatures
from intertitle.training.data.arrays.joined_stores import JoinedStores
from intertitle.training.data.arrays.ragged import Examples, Ragged, describe_cut, encode
from intertitle.training.data.batch import Batch, Row, gather_batch, make_batch
from intertitle.training.data.data_ref import Data
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import Sampler, StreamSampler
from intertitle.training.data.task import Task
from intertitle.training.data.texts import lines_of, source_of, targets_of
from intertitle.training.data.tokenizer import UNK_ID, Tokenizer
from intertitle.training.data.vocab import Vocabs


def open_dataset(
    data: Data, split: str, recipe: Recipe, task: Task, vocabularies: Vocabs
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
        lines = vocabularies.target.encode_all(list(lines_of(data.corpus, split)))
        return LanguageModelDataset(
            lines, max(1, settings.batch_tokens // settings.window), settings.window
        )
    max_source, max_target = recipe.source_tokenizer.max_tokens, recipe.tokenizer.max_tokens
    return Dataset(data, split, task, vocabularies, max_source, max_target)


@dataclass(frozen=True, slots=True)
class Splits:
    """The data sets of a training: to train on, and to measure on after each epoch."""

    train: Dataset | LanguageModelDataset
    val: Dataset | LanguageModelDataset


def open_splits(data: Data, recipe: Recipe, task: Task, vocabularies: Vocabs) -> Splits:
    """Open the data sets of a training; raises like `open_dataset`."""
    train, val = (open_dataset(data, s, recipe, task, vocabularies) for s in ("train", "val"))
    return Splits(train, val)


class Dataset:
    """The examples of one split, with the features of their items.

    A row is one target of one example: an example with five references has five rows, an example
    with labels has one row. Examples whose item is in quarantine, in any of the stores, are skipped
    and counted. A row
    with a label that is not in the vocabulary can't be learned from and is skipped, but its example
    is still evaluated.

    A pickled dataset holds its encoded texts, and its feature stores as `FeatureStore` is pickled.

    Args:
        data: corpus and feature stores.
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
        weights: weight of each row's loss, float32, [rows]; 1 unless an objective sets them.
        lengths: number of frames, source and target tokens of each row, [rows].

    Raises:
        UserError: an example lacks what the task needs, a store has no record of its item, or two
            stores have different numbers of its frames.
    """

    def __init__(
        self,
        data: Data,
        split: str,
        task: Task,
        vocabularies: Vocabs,
        max_source: int,
        max_target: int,
    ) -> None:
        self.task, self.vocabularies = task, vocabularies
        self.target_language = data.ref.target_language
        self.warnings: tuple[str, ...] = ()
        self._split = split
        stores, corpus = data.features, data.ref.corpus
        examples = Examples(data.corpus.example_table(split))
        has_features = np.ones(len(examples), bool)
        if stores is not None:
            has_features = np.fromiter((_has_features(e, stores, corpus) for e in examples), bool)
        self.examples = examples.where(has_features)
        self.left_out = tuple(example.id for example in examples.where(~has_features))
        if not self.examples:
            raise UserError(f"{corpus}: every item of split {split!r} is in quarantine")
        nothing = np.zeros(len(self.examples), np.int64)
        self._sources = Ragged(np.zeros(0, np.int32), nothing)
        if task.has_source:
            assert vocabularies.source is not None
            texts = (source_of(example, corpus) for example in self.examples)
            self._sources, full = encode(vocabularies.source, texts, max_source)
            self.warnings += describe_cut(
                full, max_source, f"sources of {split!r}", "source_tokenizer"
            )
        self._features = None
        if stores is not None:
            self._features = FlatFeatures(stores, [str(e.item_key) for e in self.examples])
        self._frames = nothing if self._features is None else self._features.num_frames
        targets, owners = self._encoded_targets(vocabularies.target, max_target)
        if task.output != "sentence":
            is_known = ~targets.contains(UNK_ID)
            targets, owners = targets.where(is_known), owners[is_known]
        if not len(owners):
            raise UserError(f"{corpus}: split {split!r}: none of its labels is in the vocabulary")
        self._targets, self._owners = targets, owners.astype(np.int32)
        self._ends = int(task.output == "sentence")
        self.weights = np.ones(len(owners), np.float32)
        self.lengths: NDArray[np.int64] = (
            self._frames[owners] + self._sources.lengths[owners] + targets.lengths + self._ends
        )
        # Arrow keeps what it needed to read the table.
        pa.default_memory_pool().release_unused()

    def _encoded_targets(
        self, tokenizer: Tokenizer, max_target: int
    ) -> tuple[Ragged, NDArray[np.int64]]:
        """Return the tokens of each row, and the index of its example, [rows]."""
        texts = (target for e in self.examples for target in targets_of(e, self.task))
        if self.task.output != "label_per_frame":
            counts = np.fromiter((len(targets_of(e, self.task)) for e in self.examples), np.int64)
            targets, full = encode(tokenizer, texts, max_target)
            self.warnings += describe_cut(
                full, max_target, f"targets of {self._split!r}", "tokenizer"
            )
            return targets, np.repeat(np.arange(len(self.examples)), counts)
        for example, frames in zip(self.examples, self._frames, strict=True):
            if len(example.targets) != frames:
                raise UserError(
                    f"example {example.id!r} has {len(example.targets)} labels, its item "
                    f"{frames} frames in the store: one per frame is needed "
                    "(`intertitle precompute --every 1`)"
                )
        labels, _ = encode(tokenizer, texts, 1)
        tokens = np.fromiter((label for (label,) in labels), np.int32, len(labels))
        return Ragged(tokens, self._frames), np.arange(len(self.examples))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._targets)

    def question_length(self, example: int) -> int:
        """Return the number of frames and source tokens of an example."""
        return int(self._frames[example] + self._sources.lengths[example])

    def place_features(
        self, device: torch.device, choice: Literal["auto", "host", "device"]
    ) -> None:
        """Keep the features of batches on a GPU, see `FlatFeatures.place`."""
        if self._features is not None:
            self._features.place(device, choice)

    def features(self, example: int) -> NDArray[np.float32] | None:
        """Return the features of an example, [T, D] or [T, cells, D]; None without visual input."""
        return None if self._features is None else self._features[example]

    def sample_features(self, num_examples: int) -> list[NDArray[np.float32]]:
        """Return the features of at most `num_examples` examples, evenly spaced.

        The list is empty if the task has no visual input.
        """
        step = -(-len(self.examples) // num_examples)
        all_features = (self.features(n) for n in range(0, len(self.examples), step))
        return [features for features in all_features if features is not None]

    def num_targets(self, rows: NDArray[np.int64]) -> int:
        """Return the number of targets of the rows: tokens and <eos>, or labels."""
        return int(self._targets.lengths[rows].sum()) + self._ends * len(rows)

    def example_index(self, rows: NDArray[np.int64]) -> list[int]:
        """Return the index of each row's example."""
        index: list[int] = self._owners[rows].tolist()
        return index

    def targets(self, rows: NDArray[np.int64]) -> list[list[int]]:
        """Return the target tokens of each row, without <bos> and <eos>."""
        return [self._targets[row] for row in rows]

    def references(self) -> list[list[list[int]]]:
        """Return the reference sentences of each example, as tokens."""
        references: list[list[list[int]]] = [[] for _ in self.examples]
        for owner, ids in zip(self._owners.tolist(), self._targets, strict=True):
            references[owner].append(ids)
        return references

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Return a batch of rows with their targets and weights, for training."""
        chosen = np.asarray(rows, np.int64)
        owners = self._owners[chosen].astype(np.int64)
        return gather_batch(
            None if self._features is None else self._features.padded(owners),
            self._sources.padded(owners),
            self._targets.padded(chosen),
            self.weights[chosen],
            sentences=bool(self._ends),
        )

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
        data: corpus and feature stores.

    Attributes:
        keys: keys of the items that have features, in the order of the corpus.
        left_out: keys of the items in quarantine.

    Raises:
        UserError: there is no item, a store has no record of an item, or every item is in
            quarantine.
    """

    def __init__(self, data: Data) -> None:
        assert data.features is not None
        self._stores, corpus = data.features, data.ref.corpus
        keys = data.corpus.item_table()["key"].to_pylist()
        has_features = [self._stores.is_stored(key, corpus) for key in keys]
        self.keys: tuple[str, ...] = tuple(compress(keys, has_features))
        self.left_out = tuple(key for key, has in zip(keys, has_features, strict=True) if not has)
        if not self.keys:
            raise UserError(f"{corpus}: {'every item is in quarantine' if keys else 'no items'}")

    def num_frames(self, item: int) -> int:
        """Return the number of frames of the item with this index in `keys`."""
        return self._stores.num_frames(self.keys[item])

    def features(self, item: int) -> NDArray[np.float32]:
        """Return the features of the item with this index in `keys`, [T, D] or [T, cells, D]."""
        return self._stores.features(self.keys[item])


def _has_features(example: Example, stores: JoinedStores, corpus: str) -> bool:
    if example.item_key is None:
        raise UserError(f"{corpus}: example {example.id!r} has no item to look at")
    return stores.is_stored(example.item_key, corpus)


def make_sampler(
    dataset: Dataset | LanguageModelDataset, settings: TrainingConfig, kind: str = BY_TOKENS
) -> Sampler:
    """Create the sampler that selects the rows of each batch of a split.

    Args:
        dataset: split.
        settings: settings of the training.
        kind: name of the sampler, for examples.

    Raises:
        UserError: there is no such sampler.
    """
    if isinstance(dataset, LanguageModelDataset):
        return StreamSampler(dataset, settings.seed)
    return SAMPLERS.load(kind, "training.sampler").make(dataset, settings)
