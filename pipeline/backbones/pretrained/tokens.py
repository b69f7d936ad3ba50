"""Networks of timm whose features are tokens: ViT, CLIP, SigLIP, DINOv2 and DINOv3, BEiT, ...

The pooled feature is what the network's own head would classify: the class token, a mean over
tokens or an attention pooling, as the network was trained. The grid is the patch tokens; class,
register and other prefix tokens are left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_OUTPUTS = {
    "pooled": "timm's forward_head(pre_logits=True)",
    "grid": "the patch tokens, row by row",
}


def has_tokens(model: nn.Module, size: int) -> bool:
    """Return whether the features of a timm network are tokens, [N, tokens, D]."""
    with torch.inference_mode():
        output = model.forward_features(torch.zeros(1, 3, size, size))  # type: ignore[operator]
    return isinstance(output, Tensor) and output.ndim == 3


def describe_tokens(features: str) -> str:
    """Describe how tokens become features, for the fingerprint of a store."""
    return _OUTPUTS[features]


class Tokens(nn.Module):
    """Network from images [N, 3, H, W] to the features of its tokens.

    These are [N, D] if pooled, or [N, cells, D] for a grid.

    Args:
        model: network of timm.
        features: "pooled" or "grid".
    """

    def __init__(self, model: nn.Module, features: str) -> None:
        super().__init__()
        self.model = model
        self._features = features

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.model.forward_features(images)  # type: ignore[operator]
        if self._features == "grid":
            return patch_tokens(self.model, tokens)
        pooled: Tensor = self.model.forward_head(tokens, pre_logits=True)  # type: ignore[operator]
        return pooled


def patch_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """Leave out a network's prefix tokens, [N, tokens, D] -> [N, cells, D]."""
    return tokens[:, int(getattr(model, "num_prefix_tokens", 0)) :]


def is_square(num_cells: int) -> bool:
    """Return whether a number of patch tokens is that of a square of at least 2 x 2 cells."""
    return num_cells > 1 and math.isqrt(num_cells) ** 2 == num_cells
