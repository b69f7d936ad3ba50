"""How surprised a model is by what people say."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from training.data.dataset import Dataset
from training.data.sampler import Rows
from training.data.stream import StreamDataset
from training.models.cells import CellState
from training.models.generator import Model
from training.objectives import TeacherForcing


def perplexity(nats_per_token: float) -> float:
    """As many equally likely tokens would surprise as much."""
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf


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
