"""The PyTorch network that all backbones share, and serialisation of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import safetensors.torch
import torch
from torch import Tensor, nn

from intertitle.pipeline.backbones.spec import central_part


class FrameNetwork(nn.Module):
    """Network that computes features of frames.

    It takes uint8 [N, H, W, 3] and returns float32 [N, D], or [N, cells, D] for a grid. A network
    of clips takes uint8 [N, F, H, W, 3].

    Args:
        body: network from images [N, 3, H, W] to the last grid [N, D, H', W'], or to features
            [N, D] or [N, cells, D]. A network of clips takes [N, 3, F, H, W].
        mean: mean of each channel (RGB), which is subtracted, in pixel values.
        std: standard deviation of each channel (RGB), which it is then divided by, in pixel values.
        features: "pooled" or "grid".
        crop: height and width of the central part of a frame that the body takes; None for all.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        features: str,
        crop: int | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self._features, self._crop = features, crop
        # Not persistent, because they are not weights: they are constants in the code or in the
        # network's published settings.
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        if self._crop is not None:
            part = central_part(frames.shape[-2], self._crop)
            frames = frames[..., part, part, :]
        images = (frames.movedim(-1, -3).float() - self.mean) / self.std
        if images.ndim == 5:
            images = images.transpose(1, 2)
        # In half precision, the mean below would be rounded at every addition.
        output: Tensor = self.body(images).float()
        if output.ndim < 4:
            return output
        if self._features == "pooled":
            return output.mean((2, 3))
        return output.flatten(2).transpose(1, 2)


def pixel_values(values: Sequence[float]) -> list[float]:
    """Convert a published mean or standard deviation, of pixels in 0..1, to pixel values."""
    return [255.0 * value for value in values]


def weights_to_bytes(network: nn.Module) -> bytes:
    """Serialise a network's weights in the safetensors format, which can't contain code."""
    # Cloned, because safetensors can't write tensors that share memory.
    state = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    return bytes(safetensors.torch.save(state))


def load_weights(network: nn.Module, weights: bytes) -> None:
    """Load weights that `weights_to_bytes` serialised into a network of the same architecture."""
    network.load_state_dict(safetensors.torch.load(weights))


def weights_sha256(network: nn.Module) -> str:
    """Return a hash of a network's weights: names, dtypes, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
