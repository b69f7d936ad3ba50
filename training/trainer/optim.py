"""Optimizer, learning rate schedule and running average of the weights, in plain PyTorch."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from intertitle.training.config.recipe import OptimizerConfig
from intertitle.training.models.base import Model


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW (Loshchilov & Hutter 2019), without weight decay for biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    undecayed = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def learning_rate(config: OptimizerConfig, progress: float) -> float:
    """Return the learning rate at a point of the training.

    After a linear warmup, the rate follows the decay of the configuration.

    Args:
        config: settings of the optimizer.
        progress: completed fraction of the training, 0..1.
    """
    if progress < config.warmup:
        return config.learning_rate * max(progress, 1e-3) / config.warmup
    if config.decay == "none":
        return config.learning_rate
    decay_progress = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, decay_progress)))


class ParameterAverage:
    """Exponential running average of a model's weights, kept as a model that can be evaluated.

    In early steps the average is short: its memory grows with the number of steps up to `decay`.

    Args:
        model: model whose weights are averaged.
        decay: highest decay rate per step, 0..1.

    Attributes:
        model: copy of the model with the averaged weights, in evaluation mode.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay

    def update(self, model: Model, step: int) -> None:
        """Add the weights after step number `step` to the average."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.model.parameters()),
                [p.detach() for p in model.parameters()],
                1 - decay,
            )
