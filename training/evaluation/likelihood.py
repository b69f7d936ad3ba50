"""Negative log-likelihood of the reference targets under a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intertitle.training.data.batch import Batch
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.data.sampler import Rows
from intertitle.training.models.base import MAX_LOGITS, Model


@torch.inference_mode()
def negative_log_likelihood(
    model: Model, dataset: Dataset | LanguageModelDataset, batches: Iterable[Rows], vocabulary: int
) -> NDArray[np.float64]:
    """Compute the sum of the targets' -log p, in nats, and their number, for each row.

    A row is one target of an example, or a window of running text.

    Args:
        model: model in evaluation mode.
        dataset: dataset that the rows are from.
        batches: batches of rows; for running text, the windows in order. Other rows have zeros in
            the result.
        vocabulary: size of the target vocabulary, V.

    Returns:
        Sums and numbers, [rows, 2].
    """
    device = next(model.parameters()).device
    sums = np.zeros((len(dataset), 2))
    carried: Any = None
    for rows in batches:
        batch = dataset.batch(rows).to(device)
        hidden, carried = model.forward_with_state(batch, carried)
        counts = batch.target_mask
        nats = _nats(model, hidden[counts], batch.targets[counts], max(1, MAX_LOGITS // vocabulary))
        # Convert to NumPy arrays first: NumPy treats a tensor with one element as a plain number.
        owners = rows[counts.nonzero()[:, 0].cpu().numpy()]
        np.add.at(sums[:, 0], owners, nats.double().cpu().numpy())
        sums[rows, 1] = counts.sum(1).cpu().numpy()
    return sums


def sum_by_example(nll: NDArray[np.float64], dataset: Dataset) -> NDArray[np.float64]:
    """Sum the results of `negative_log_likelihood` over the targets of each example.

    Args:
        nll: sum of -log p and number of tokens of each row, [rows, 2].
        dataset: dataset that the rows are from.

    Returns:
        Sums and numbers by example, [B, 2].
    """
    sums = np.zeros((len(dataset.examples), 2))
    np.add.at(sums, dataset.example_index(np.arange(len(nll))), nll)
    return sums


@torch.inference_mode()
def sequence_log_probs(model: Model, batch: Batch, vocabulary: int) -> Tensor:
    """Compute the log-probability of each row's targets.

    It includes a sentence's <eos>; labels are treated in the same manner.

    Args:
        model: model in evaluation mode.
        batch: batch of B rows.
        vocabulary: size of the target vocabulary, V.

    Returns:
        Log-probabilities in nats, [B].
    """
    hidden, counts = model.forward(batch), batch.target_mask
    portion = max(1, MAX_LOGITS // vocabulary)
    nats = torch.zeros(counts.shape, device=hidden.device)
    nats[counts] = _nats(model, hidden[counts], batch.targets[counts], portion)
    return -nats.sum(1)


def _nats(model: Model, hidden: Tensor, targets: Tensor, portion: int) -> Tensor:
    """Compute -log p of N targets, [N], in parts that fit in memory."""
    parts = zip(torch.split(hidden, portion), torch.split(targets, portion), strict=True)
    return torch.cat(
        [
            -torch.log_softmax(model.logits(hidden_part).float(), -1).gather(
                1, target_part[:, None]
            )[:, 0]
            for hidden_part, target_part in parts
        ]
    )
