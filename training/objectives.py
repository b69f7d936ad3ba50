"""What is learned from a batch: one loss for every objective.

It is the sum of -log p of a batch's targets, each row with its weight. Where objectives differ is
the batch (`lessons`): the right words, a share of the model's own among them, or sentences of the
model's own with what they are worth.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.data.batch import Batch
from training.models.generator import Model

# Logits held at once: 64 MB in float32. More of them are computed, and computed again for the
# gradient, part by part.
MAX_LOGITS = 2**24


class TeacherForcing(nn.Module):
    """A model with its loss, given the words before each word.

    One module, so that wrapping it for several workers wraps the whole of a step.

    Args:
        model: of any kind.
        vocabulary: V.
        label_smoothing: share of a target's probability that is spread over the vocabulary
            (Szegedy et al. 2016); in training alone, as is the model's penalty.
    """

    def __init__(self, model: Model, vocabulary: int, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.portion = max(1, MAX_LOGITS // vocabulary)
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch, carried: Any = None) -> tuple[Tensor, Tensor, Any]:
        """Learn from a batch.

        Args:
            batch: of any kind.
            carried: the state after the window before, of a model of running text.

        Returns:
            Sums over the batch's targets: the loss to descend, and the plain -log p, in nats; and
            the state after the window, cut off from its gradient.
        """
        hidden, state = self.model.read_on(batch, carried)
        counts = batch.counts
        # Only what counts meets the vocabulary: padding would cost as much as it does.
        told, targets = hidden[counts], batch.targets[counts]
        weights = batch.weights[:, None].expand_as(counts)[counts]
        loss, nats = self._loss(told, targets, weights)
        if self.training and (penalty := self.model.penalty(batch, hidden)) is not None:
            loss = loss + penalty
        return loss, nats, None if state is None else state.detach()

    def _loss(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The sums over N targets, in portions small enough to hold."""
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
        return _Surprise.apply(logits, targets, weights, smoothing)  # type: ignore[no-any-return, no-untyped-call]


class _Surprise(torch.autograd.Function):
    """The smoothed loss and the plain one, with a gradient that is written once, where it belongs.

    Autograd's own fills a matrix of the size of the logits for each of the two, and adds them.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        log_probs = torch.log_softmax(logits, -1)
        surprise = -log_probs.gather(1, targets[:, None])[:, 0]
        nats = surprise.sum()
        if smoothing:
            surprise = (1 - smoothing) * surprise - smoothing * log_probs.mean(-1)
        ctx.save_for_backward(log_probs, targets, weights)
        ctx.smoothing = smoothing
        ctx.mark_non_differentiable(nats)
        return (weights * surprise).sum(), nats

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
