"""Which rows make a batch: an exact order that a seed fixes and a cursor resumes anywhere.

An epoch's batches are made for all workers together, and each worker takes its share of every one:
so all take the same number of steps, and another number of workers sees the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.stream import StreamDataset

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a training: `batch` batches of epoch `epoch` are done."""

    epoch: int = 0
    batch: int = 0


class BatchSampler:
    """Batches of rows of like length, by a budget of tokens.

    Args:
        lengths: tokens of each row, [N].
        batch_tokens: a batch's rows times its longest row is at most this; a row that is longer is
            a batch of its own.
        pool_batches: the size of the pool, in average batches, inside which rows are sorted: a
            larger one wastes less padding, a smaller one mixes better.
        seed: of the order.
    """

    def __init__(self, lengths: Rows, batch_tokens: int, pool_batches: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_tokens = batch_tokens
        self._seed = seed
        rows = max(1, batch_tokens // max(1, int(lengths.mean())))
        self._pool_rows = rows * pool_batches

    def epoch(self, number: int) -> list[Rows]:
        """The batches of one epoch: each row is in exactly one of them."""
        rng = np.random.default_rng((self._seed, number))
        shuffled = rng.permutation(len(self._lengths))
        batches = [
            batch
            for at in range(0, len(shuffled), self._pool_rows)
            for batch in self._cut(shuffled[at : at + self._pool_rows])
        ]
        rng.shuffle(batches)
        return batches

    def _cut(self, pool: Rows) -> Iterator[Rows]:
        """Cut a pool, sorted by length, into batches."""
        pool = pool[np.argsort(self._lengths[pool], kind="stable")]
        start = 0
        for end, length in enumerate(self._lengths[pool], start=1):
            # Sorted: the newest row is the longest.
            if (end - start) * length > self._batch_tokens and end - start > 1:
                yield pool[start : end - 1]
                start = end - 1
        yield pool[start:]


class StreamSampler:
    """Batches of running text: its windows in order, each of all lanes.

    A lane begins without a state. Were it in every epoch at the same places of the text, a model
    would learn by heart what follows there, and nothing of how to begin: so each epoch begins
    elsewhere.

    Args:
        text: in lanes and windows.
        seed: of the places.
    """

    def __init__(self, text: StreamDataset, seed: int) -> None:
        self._text = text
        self._seed = seed

    def epoch(self, number: int) -> list[Rows]:
        """The batches of one epoch: each row is in exactly one of them."""
        rng = np.random.default_rng((self._seed, number))
        return self._text.windows(int(rng.integers(len(self._text))))


Sampler = BatchSampler | StreamSampler


def share(rows: Rows, rank: int, world_size: int) -> Rows:
    """A worker's rows of a batch; may be none."""
    return rows[rank::world_size]


def shares(batches: Iterable[Rows], rank: int, world_size: int) -> Iterable[Rows]:
    """A worker's part of some batches: of each its share, so that it keeps its lanes of a text."""
    parts = (share(rows, rank, world_size) for rows in batches)
    return (rows for rows in parts if len(rows))
