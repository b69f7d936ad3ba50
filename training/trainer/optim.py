"""Optimizer, learning rate schedule and running average of the weights, in plain PyTorch."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from intertitle.training.config.sections import OptimizerConfig
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


def step_if(finite: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Update the weights if the gradient is finite, without waiting for the device.

    The fused kernels take the flag as an argument, as they do from PyTorch's `GradScaler`.

    Args:
        finite: whether the gradient is finite, bool, [].
        optimizer: result of `make_optimizer`; its state stays unchanged too if it is not.
    """
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    optimizer.step()


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

    def update(self, model: Model, step: int, finite: Tensor) -> None:
        """Add the weights after step number `step` to the average.

        Args:
            model: model with the new weights.
            step: number of the step, from 0.
            finite: whether the step changed the weights, bool, []; otherwise nothing is added.
        """
        decay = min(self._decay, (1 + step) / (10 + step))
        weight = torch.where(finite, 1 - decay, 0.0)
        with torch.no_grad():
            for average, parameter in zip(self.model.parameters(), model.parameters(), strict=True):
                average.lerp_(parameter, weight)
