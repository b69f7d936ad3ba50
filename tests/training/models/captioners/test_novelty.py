"""Features unlike the training split are told from those like it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from intertitle.training.models.captioners.inject import Standardize
from intertitle.training.models.captioners.novelty import far_features


def test_features_of_another_scale_are_far() -> None:
    generator = np.random.default_rng(0)
    examples = generator.normal(3, 2, (200, 32)).astype(np.float32)
    scale = Standardize(32)
    scale.fit(torch.from_numpy(examples))
    model = nn.ModuleDict({"scale": scale})
    assert not any(far_features(model, example[None]) for example in examples)
    # Frames of cells; another mean.
    assert far_features(model, generator.normal(9, 2, (4, 49, 32)).astype(np.float32))
    assert not far_features(nn.Linear(1, 1), examples)
