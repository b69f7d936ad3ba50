"""Samplers, which select the rows of each batch: a seed determines the order, a cursor resumes it.

The batches of an epoch are created for all workers together, and each worker takes its share of
every batch: all workers take the same number of steps, and the batches do not depend on the number
of workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from intertitle.training.config.samplers import SamplerKind
from intertitle.training.config.sections import TrainingConfig
from intertitle.training.data.lm_dataset import LanguageModelDataset

if TYPE_CHECKING:
    from intertitle.training.data.dataset import Dataset

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A position in a training.

    Attributes:
        epoch: number of the current epoch, from 0.
        batch: number of batches of that epoch that are done.
    """

    epoch: int = 0
    batch: int = 0


class BatchSampler:
    """A sampler of batches of rows with similar lengths, limited by a number of tokens.

    Args:
        lengths: number of tokens of each row, [N].
        batch_tokens: maximum number of rows of a batch times the length of its longest row; a
            longer row is a batch of its own.
        pool_batches: size, in average batches, of the pool within which rows are sorted: a larger
            pool needs less padding, a smaller one shuffles better.
        seed: seed of the order.
    """

    def __init__(self, lengths: Rows, batch_tokens: int, pool_batches: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_tokens = batch_tokens
        self._seed = seed
        rows = max(1, batch_tokens // max(1, int(lengths.mean())))
        self._pool_rows = rows * pool_batches

    def epoch(self, number: int) -> list[Rows]:
        """Return the batches of one epoch; each row is in exactly one of them."""
        rng = np.random.default_rng((self._seed, number))
        shuffled = rng.permutation(len(self._lengths))
        batches = [
            batch
            for start in range(0, len(shuffled), self._pool_rows)
            for batch in self._cut(shuffled[start : start + self._pool_rows])
        ]
        rng.shuffle(batches)
        return batches

    def _cut(self, pool: Rows) -> Iterator[Rows]:
        """Sort a pool by length and split it into batches."""
        pool = pool[np.argsort(self._lengths[pool], kind="stable")]
        start = 0
        for end, length in enumerate(self._lengths[pool], start=1):
            # The rows are sorted, so the last one is the longest.
            if (end - start) * length > self._batch_tokens and end - start > 1:
                yield pool[start : end - 1]
                start = end - 1
        yield pool[start:]


class StreamSampler:
    """A sampler of running text: its windows in order, each batch with one window of every stream.

    A stream starts without a state. If it started at the same positions of the text in every epoch,
    a model would memorize what follows there instead of learning how to start. Each epoch therefore
    starts at another position.

    Args:
        text: dataset of streams and windows.
        seed: seed of the start positions.
    """

    def __init__(self, text: LanguageModelDataset, seed: int) -> None:
        self._text = text
        self._seed = seed

    def epoch(self, number: int) -> list[Rows]:
        """Return the batches of one epoch; each row is in exactly one of them."""
        rng = np.random.default_rng((self._seed, number))
        return self._text.windows(int(rng.integers(len(self._text))))


class Sampler(Protocol):
    """Selects the rows of each batch; the batches depend on nothing but their number's epoch."""

    def epoch(self, number: int) -> list[Rows]:
        """Return the batches of one epoch."""
        ...


def _by_tokens(dataset: Dataset, settings: TrainingConfig) -> Sampler:
    return BatchSampler(
        dataset.lengths, settings.batch_tokens, settings.pool_batches, settings.seed
    )


BY_TOKENS = SamplerKind("tokens", _by_tokens)


def share(rows: Rows, rank: int, world_size: int) -> Rows:
    """Return a worker's rows of a batch; may be empty."""
    return rows[rank::world_size]


def shares(batches: Iterable[Rows], rank: int, world_size: int) -> Iterable[Rows]:
    """Return a worker's share of each batch; empty shares are skipped.

    For running text, a worker has the same streams in every batch.
    """
    parts = (share(rows, rank, world_size) for rows in batches)
    return (rows for rows in parts if len(rows))
