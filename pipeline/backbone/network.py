"""A network between frames and features, in PyTorch: what is the same whichever it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import safetensors.torch
import torch
from torch import Tensor, nn


class FrameNetwork(nn.Module):
    """Frames uint8 [N, H, W, 3] -> features float32 [N, D], or [N, cells, D] for a grid.

    Args:
        body: images [N, 3, H, W] -> the last grid [N, D, H', W'], or a layer's output [N, D].
        mean: what is subtracted from each channel, in pixel values, RGB.
        std: what each channel is then divided by, in pixel values.
        features: "pooled" or "grid".
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, body: nn.Module, mean: Sequence[float], std: Sequence[float], features: str
    ) -> None:
        super().__init__()
        self.body = body
        self._features = features
        # Not weights: they stand in the code or in the network's published settings.
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        images = (frames.permute(0, 3, 1, 2).float() - self.mean) / self.std
        # A mean over half-precision numbers would be rounded at every step.
        output: Tensor = self.body(images).float()
        if output.ndim == 2:
            return output
        if self._features == "pooled":
            return output.mean((2, 3))
        return output.flatten(2).transpose(1, 2)


def weights_to_bytes(network: nn.Module) -> bytes:
    """A network's weights in the safetensors format, in which no code can hide."""
    # Copies: weights that share memory can't be written.
    state = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    return bytes(safetensors.torch.save(state))


def load_weights(network: nn.Module, weights: bytes) -> None:
    """The inverse of `weights_to_bytes`, into a network of the same make."""
    network.load_state_dict(safetensors.torch.load(weights))


def weights_sha256(network: nn.Module) -> str:
    """A hash of a network's weights: of their names, kinds, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
