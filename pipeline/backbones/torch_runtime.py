"""Run a network in PyTorch, on a CPU or GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from intertitle.pipeline.backbones.base import FrameNetwork
from intertitle.pipeline.backbones.spec import BATCH, BackboneSpec, Precision, as_clips


class TorchBackbone:
    """Backbone that runs in PyTorch.

    Args:
        spec: specification of the backbone.
        network: network with its weights; it is moved to the device.
        device: name of the PyTorch device.
        precision: data type of convolutions and matrix products; weights, the scaling of pixels and
            the mean over the grid stay in float32.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        network: FrameNetwork,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        # TF32 keeps only ten of float32's 23 mantissa bits, so it is turned off.
        torch.backends.cudnn.allow_tf32 = False
        self._shape, self._window = spec.shape, spec.window
        self._device = torch.device(device)
        self._half = None if precision == "float32" else getattr(torch, precision)
        # GPU convolutions in half precision are fastest with the channels last.
        layout = torch.channels_last if spec.window == 1 else torch.channels_last_3d
        self._network = network.to(self._device, memory_format=layout)  # type: ignore[call-overload]

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not len(frames):
            return np.zeros((0, *self._shape), np.float32)
        frames = as_clips(frames, self._window)
        half = torch.autocast(self._device.type, self._half, enabled=self._half is not None)
        with torch.inference_mode(), half:
            parts = [
                self._network(torch.from_numpy(frames[at : at + BATCH]).to(self._device)).cpu()
                for at in range(0, len(frames), BATCH)
            ]
        return np.ascontiguousarray(torch.cat(parts).numpy())
