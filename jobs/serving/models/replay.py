"""Probabilities and attention of outputs that a model has generated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from intertitle.jobs.serving.schemas import Attention
from intertitle.training.data.batch import Batch, Row
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.base import Generator


@torch.inference_mode()
def replay(
    model: Generator[Any], batch: Batch, sequences: Sequence[tuple[int, ...]]
) -> tuple[list[list[float]], NDArray[np.float32] | None]:
    """Compute the log-probabilities of the tokens of N outputs for one input.

    Args:
        model: generator in evaluation mode.
        batch: input, one row.
        sequences: tokens of each output; in running text EOS_ID ends a line.

    Returns:
        The log-probability of each token and of the end, for each output, padded to the longest;
        and the attention weights of the first output, [L + 1, S], or None without attention.
    """
    num, device = len(sequences), batch.targets.device
    state = model.start(batch).select(torch.zeros(num, dtype=torch.int64, device=device))
    length = max(map(len, sequences)) + 1
    targets = torch.full((num, length), EOS_ID, device=device)
    for row, ids in enumerate(sequences):
        targets[row, : len(ids)] = torch.tensor(ids, dtype=torch.int64, device=device)
    tokens = torch.full((num,), BOS_ID, device=device)
    log_probs, weights = [], []
    for step in range(length):
        scores, state = model.step(state, tokens)
        log_probs.append(scores.gather(1, targets[:, step : step + 1])[:, 0])
        attention = model.attention_weights(state)
        if attention is not None and step <= len(sequences[0]):
            weights.append(attention.weights[0])
        tokens = targets[:, step].masked_fill(targets[:, step] == EOS_ID, BOS_ID)
    rows: list[list[float]] = torch.stack(log_probs, 1).tolist()
    return rows, torch.stack(weights).cpu().numpy() if weights else None


def as_attention(
    trained: TrainedModel, row: Row, names: list[str], weights: NDArray[np.float32]
) -> Attention:
    """Return attention weights as a response has them.

    Args:
        trained: model that attends.
        row: its input.
        names: names of the L tokens or hops.
        weights: attention weights, [L, S].
    """
    rows = [[round(float(value), 5) for value in token_weights] for token_weights in weights]
    if row.features is not None:
        num_frames = len(row.features)
        cells = weights.shape[1] // num_frames
        side = round(cells**0.5)
        return Attention(tokens=names, shape=(num_frames, cells // side, side), weights=rows)
    assert trained.vocabularies.source is not None
    tokens = trained.vocabularies.source.tokens()
    source = [tokens[token] for token in row.source] or [""]
    return Attention(tokens=names, source=source, weights=rows)
