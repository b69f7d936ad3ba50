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
        batch = dataset.batch(rows)
        # Convert to NumPy arrays first: NumPy treats a tensor with one element as a plain number.
        owners = rows[batch.target_places.numpy() // batch.targets.shape[1]]
        sums[rows, 1] = batch.target_lengths.numpy()
        batch = batch.to(device)
        hidden, carried = model.forward_with_state(batch, carried)
        nats = _nats(model, hidden, batch, max(1, MAX_LOGITS // vocabulary))
        np.add.at(sums[:, 0], owners, nats.double().cpu().numpy())
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
    nats = _nats(model, model.forward(batch), batch, max(1, MAX_LOGITS // vocabulary))
    grid = nats.new_zeros(batch.targets.numel()).index_copy(0, batch.target_places, nats)
    return -grid.view_as(batch.targets).sum(1)


def _nats(model: Model, hidden: Tensor, batch: Batch, portion: int) -> Tensor:
    """Compute -log p of the N targets that count, [N], in parts that fit in memory."""
    hidden = hidden.flatten(0, 1).index_select(0, batch.target_places)
    targets = batch.targets.flatten().index_select(0, batch.target_places)
    parts = zip(torch.split(hidden, portion), torch.split(targets, portion), strict=True)
    return torch.cat(
        [
            -torch.log_softmax(model.logits(hidden_part).float(), -1).gather(
                1, target_part[:, None]
            )[:, 0]
            for hidden_part, target_part in parts
        ]
    )
