"""How weights move: the loss, its schedule, the running average. Plain PyTorch."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from training.config import OptimizerConfig
from training.data.batch import Batch
from training.models.generator import Generator


class TeacherForcing(nn.Module):
    """A generator with its loss, given the right words before each word.

    One module, so that wrapping it for several workers wraps the whole of a step.

    Args:
        model: the generator.
        label_smoothing: share of a target's probability that is spread over the vocabulary
            (Szegedy et al. 2016).
    """

    def __init__(self, model: Generator[Any], label_smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sums over the batch's words: the loss to descend, and the plain -log p, in nats."""
        counts = (
            torch.arange(batch.targets.shape[1], device=batch.targets.device)
            < batch.num_targets[:, None]
        )
        # Only words that count meet the vocabulary: padding would cost as much as they do.
        logits = self.model.logits(self.model.hidden(batch)[counts])
        log_probs = torch.log_softmax(logits.float(), -1)
        nats = -log_probs.gather(1, batch.targets[counts][:, None]).sum()
        if not self.label_smoothing:
            return nats, nats.detach()
        spread = -log_probs.mean(-1).sum()
        return (1 - self.label_smoothing) * nats + self.label_smoothing * spread, nats.detach()


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); not on biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """The rate after a share of the training, 0..1: it rises in a line, then falls."""
    if progress < config.warmup:
        return config.learning_rate * max(progress, 1e-3) / config.warmup
    if config.decay == "none":
        return config.learning_rate
    fallen = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))


class WeightAverage:
    """An exponential running average of a model's weights, as a model that can be evaluated.

    Early on the average is short: its memory grows with the steps up to the decay wanted.
    """

    def __init__(self, model: Generator[Any], decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    def update(self, model: Generator[Any], step: int) -> None:
        """Take in the weights after step number `step`."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.model.parameters()),
                [p.detach() for p in model.parameters()],
                1 - decay,
            )
