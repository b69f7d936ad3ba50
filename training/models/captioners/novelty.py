"""Warnings about files that are far from what a model has learned from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from intertitle.training.models.captioners.inject import Standardize

# Mean square of the standardized features above which a file is unlike the training split. For one
# vector of that split it is 1 on average, for the mean of several frames less.
_FAR = 4.0


def far_features(model: nn.Module, features: NDArray[np.float32]) -> tuple[str, ...]:
    """Return a warning about a file whose features are unlike those of the training split.

    Args:
        model: model, which has measured the scale of the features if it has a `Standardize`.
        features: features of the file, [T, D] or [T, cells, D].
    """
    scale = next((part for part in model.modules() if isinstance(part, Standardize)), None)
    if scale is None:
        return ()
    mean = torch.from_numpy(features).flatten(0, -2).mean(0).to(scale.mean.device)
    with torch.inference_mode():
        distance = float(scale(mean).square().mean())
    if distance <= _FAR:
        return ()
    return ("this file is unlike those that the model has learned from: the answer is a guess",)
