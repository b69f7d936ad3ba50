"""How surprised a model is by what people say."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from training.config import TrainingConfig
from training.data.dataset import Dataset
from training.data.sampler import BatchSampler, Rows, Sampler, StreamSampler, share
from training.data.stream import StreamDataset
from training.models.cells import CellState
from training.models.generator import Model
from training.objectives import TeacherForcing


def make_sampler(dataset: Dataset | StreamDataset, settings: TrainingConfig) -> Sampler:
    """The batches of a split."""
    if isinstance(dataset, StreamDataset):
        return StreamSampler(dataset.windows())
    return BatchSampler(
        dataset.lengths, settings.batch_tokens, settings.pool_batches, settings.seed
    )


def shares(batches: Iterable[Rows], rank: int, world_size: int) -> Iterable[Rows]:
    """A worker's part of some batches: of each its share, so that it keeps its lanes of a text."""
    parts = (share(rows, rank, world_size) for rows in batches)
    return (rows for rows in parts if len(rows))


@torch.inference_mode()
def surprise(
    model: Model, dataset: Dataset | StreamDataset, batches: Iterable[Rows], vocabulary: int
) -> tuple[float, int]:
    """The sum of -log p of some rows' targets, in nats, and their number.

    Args:
        model: in evaluation mode.
        dataset: of the rows.
        batches: of rows; of running text, the windows in order.
        vocabulary: V.
    """
    forcing = TeacherForcing(model, vocabulary).eval()
    device = next(model.parameters()).device
    nats, tokens = 0.0, 0
    carried: CellState | None = None
    for rows in batches:
        batch = dataset.batch(rows)
        _, batch_nats, carried = forcing(batch.to(device), carried)
        nats += float(batch_nats)
        tokens += int(batch.num_targets.sum())
    return nats, tokens
