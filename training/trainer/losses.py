"""The loss function, one for every objective.

It is the sum of -log p of a batch's targets, where each row has a weight. Objectives differ in the
batch only (see `batch_transforms`): the reference tokens, reference tokens partly replaced by the
model's own, or sentences sampled from the model and weighted by their reward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from intertitle.training.data.batch import Batch
from intertitle.training.models.base import MAX_LOGITS, Model


class SequenceLoss(nn.Module):
    """A model together with its loss, computed with teacher forcing.

    Args:
        model: model of any task.
        vocabulary: size of the target vocabulary, V.
        label_smoothing: share of a target's probability that is spread over the vocabulary (Szegedy
            et al. 2016); used only in training mode, as is the model's auxiliary loss.
    """

    def __init__(self, model: Model, vocabulary: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.portion = max(1, MAX_LOGITS // vocabulary)
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch, carried: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Compute the loss of a batch.

        Args:
            batch: batch for a model of any task.
            carried: recurrent state after the previous window, for a language model; else None.

        Returns:
            The training loss and the plain -log p in nats, both summed over the batch's targets;
            and the state after the window, detached.
        """
        hidden, state = self.model.forward_with_state(batch, carried)
        # Logits are computed for real targets only: padding would take as much time and memory.
        places = batch.target_places
        selected = hidden.flatten(0, 1).index_select(0, places)
        targets = batch.targets.flatten().index_select(0, places)
        weights = batch.weights.index_select(0, places // batch.targets.shape[1])
        loss, nats = self._loss(selected, targets, weights)
        if self.training and (penalty := self.model.auxiliary_loss(batch, hidden)) is not None:
            loss = loss + penalty
        return loss, nats, None if state is None else state.detach()

    def _loss(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums over N targets, computed in parts that fit in memory."""
        if len(targets) <= self.portion:
            return self._portion(hidden, targets, weights)
        parts = zip(
            *(torch.split(t, self.portion) for t in (hidden, targets, weights)), strict=True
        )
        sums = [checkpoint(self._portion, *part, use_reentrant=False) for part in parts]
        loss, nats = (torch.stack(values).sum() for values in zip(*sums, strict=True))
        return loss, nats

    def _portion(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        smoothing = self.label_smoothing if self.training else 0.0
        logits = self.model.logits(hidden).float()
        return SmoothedCrossEntropy.apply(logits, targets, weights, smoothing)  # type: ignore[no-any-return, no-untyped-call]


class SmoothedCrossEntropy(torch.autograd.Function):
    """The smoothed and the plain cross entropy, with a gradient that is computed in one matrix.

    Autograd's own gradient would allocate a matrix of the size of the logits for each of the two,
    and add them.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        log_probs = torch.log_softmax(logits, -1)
        nll = -log_probs.gather(1, targets[:, None]).squeeze(1)
        nats = nll.sum()
        if smoothing:
            nll = (1 - smoothing) * nll - smoothing * log_probs.mean(-1)
        ctx.save_for_backward(log_probs, targets, weights)
        ctx.smoothing = smoothing
        ctx.mark_non_differentiable(nats)
        return (weights * nll).sum(), nats

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        log_probs, targets, weights = ctx.saved_tensors
        scale = (gradients[0] * weights)[:, None].to(log_probs.dtype)
        gradient = log_probs.exp()
        if ctx.smoothing:
            gradient -= ctx.smoothing / log_probs.shape[1]
        gradient *= scale
        gradient.scatter_add_(1, targets[:, None], (ctx.smoothing - 1) * scale)
        return gradient, None, None, None
