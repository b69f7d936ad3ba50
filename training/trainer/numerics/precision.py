"""The number format of a training, and the scale of the loss that float16 needs.

The weights, their gradients and the optimizer are float32. Products are computed in the format of
the recipe, by autocast; recurrent layers cast their own inputs and weights (see `RNNStack`),
because autocast calls cuDNN's recurrent kernels in float16 whichever format was requested.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from intertitle.training.config.sections import TrainingConfig

Precision = Literal["float32", "bfloat16", "float16"]

# At this scale a gradient of 2e-9 is a normal number of float16; it is halved at each overflow.
FIRST_SCALE = 2.0**15
# Number of steps without an overflow after which the scale is doubled.
GROWTH_STEPS = 2000


def precision_of(settings: TrainingConfig) -> Precision:
    """Return the precision in force.

    "auto" is float32: another format would have to be measured first, on the device and for every
    parameter, to have gradients within 1e-2 of float32's.
    """
    return "float32" if settings.precision == "auto" else settings.precision


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context that a forward pass is computed in."""
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "float32")


class LossScale:
    """Factor of the loss that keeps gradients from being too small for float16.

    Micikevicius et al. 2018, "Mixed Precision Training". The factor is halved after a gradient that
    is not finite, and doubled after `GROWTH_STEPS` steps without one. It stays on the device, and
    no step waits for it. It is a power of two, so that scaling and unscaling change no digit.

    Args:
        precision: precision of the training; the factor stays 1 unless it is "float16".
        device: device of the model.
    """

    def __init__(self, precision: Precision, device: torch.device) -> None:
        self._enabled = precision == "float16"
        self.factor = torch.tensor(FIRST_SCALE if self._enabled else 1.0, device=device)
        self._num_finite = torch.zeros((), device=device)

    def unscale(self, model: nn.Module) -> None:
        """Divide the gradients by the factor."""
        if self._enabled:
            inverse = 1 / self.factor
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(inverse)

    def update(self, finite: Tensor) -> None:
        """Adapt the factor after a step.

        Args:
            finite: whether the gradient was finite, bool, [].
        """
        if self._enabled:
            num_finite = torch.where(finite, self._num_finite + 1, 0.0)
            grows = num_finite >= GROWTH_STEPS
            self.factor = self.factor * torch.where(finite, torch.where(grows, 2.0, 1.0), 0.5)
            self._num_finite = torch.where(grows, 0.0, num_finite)

    def state(self) -> dict[str, Tensor]:
        """Return the state, for a checkpoint; empty unless the precision is float16."""
        if not self._enabled:
            return {}
        return {"factor": self.factor, "num_finite": self._num_finite}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of `state`; the scale starts again if the precision was another."""
        if self._enabled and state:
            device = self.factor.device
            self.factor = state["factor"].to(device)
            self._num_finite = state["num_finite"].to(device)
