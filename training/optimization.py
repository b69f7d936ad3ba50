"""How weights move: the optimizer, its schedule, the running average. Plain PyTorch."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from training.config import OptimizerConfig
from training.models.generator import Model


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

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    def update(self, model: Model, step: int) -> None:
        """Take in the weights after step number `step`."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.model.parameters()),
                [p.detach() for p in model.parameters()],
                1 - decay,
            )
