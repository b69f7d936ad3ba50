"""How surprised a model is by what people say."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.batch import Batch
from training.data.dataset import Dataset
from training.data.sampler import Rows
from training.data.stream import StreamDataset
from training.models.generator import Model
from training.objectives import MAX_LOGITS


@torch.inference_mode()
def surprise(
    model: Model, dataset: Dataset | StreamDataset, batches: Iterable[Rows], vocabulary: int
) -> NDArray[np.float64]:
    """The sum of -log p of targets, in nats, and their number, of each row: [rows, 2].

    A row is one of an example's targets; of running text it is a window.

    Args:
        model: in evaluation mode.
        dataset: of the rows.
        batches: of rows; of running text, the windows in order. Other rows count nothing.
        vocabulary: V.
    """
    device = next(model.parameters()).device
    found = np.zeros((len(dataset), 2))
    carried: Any = None
    for rows in batches:
        batch = dataset.batch(rows).to(device)
        hidden, carried = model.read_on(batch, carried)
        counts = batch.counts
        nats = _nats(model, hidden[counts], batch.targets[counts], max(1, MAX_LOGITS // vocabulary))
        # As NumPy arrays: NumPy takes a tensor of one element for a plain number.
        owners = rows[counts.nonzero()[:, 0].cpu().numpy()]
        np.add.at(found[:, 0], owners, nats.double().cpu().numpy())
        found[rows, 1] = counts.sum(1).cpu().numpy()
    return found


def by_example(told: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """The same of each of `dataset.examples`, with all its targets: [B, 2]."""
    found = np.zeros((len(dataset.examples), 2))
    np.add.at(found, dataset.owners(np.arange(len(told))), told)
    return found


@torch.inference_mode()
def log_probs_of(model: Model, batch: Batch, vocabulary: int) -> Tensor:
    """The log-probability of each row's targets, with a sentence's <eos>, in nats, [B]; of labels
    likewise.

    Args:
        model: in evaluation mode.
        batch: B rows.
        vocabulary: V.
    """
    hidden, counts = model.hidden(batch), batch.counts
    portion = max(1, MAX_LOGITS // vocabulary)
    nats = torch.zeros(counts.shape, device=hidden.device)
    nats[counts] = _nats(model, hidden[counts], batch.targets[counts], portion)
    return -nats.sum(1)


def _nats(model: Model, hidden: Tensor, targets: Tensor, portion: int) -> Tensor:
    """-log p of N targets, in portions small enough to hold: [N]."""
    parts = zip(torch.split(hidden, portion), torch.split(targets, portion), strict=True)
    return torch.cat(
        [
            -torch.log_softmax(model.logits(some).float(), -1).gather(1, told[:, None])[:, 0]
            for some, told in parts
        ]
    )
