"""Running a network: in ONNX Runtime on the CPU, in PyTorch on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.backbone.network import FrameNetwork
from pipeline.backbone.spec import BATCH, BackboneSpec, Precision

# Frames a call: what a layer makes of so few stays in a core's cache; of 32 it is a tenth slower.
_CACHED_FRAMES = 4


class OnnxBackbone:
    """A network in ONNX Runtime, on the CPU.

    Args:
        spec: of the backbone.
        model: an ONNX file's bytes: one input uint8 [N, H, W, 3], one output [N, *shape].
        num_threads: cores to use.
    """

    def __init__(self, spec: BackboneSpec, model: bytes, num_threads: int) -> None:
        self._shape = spec.shape
        self._session = open_session(model, num_threads)
        (frames,) = self._session.get_inputs()
        self._input = frames.name
        # A file may be made for one frame a call.
        self._batch = frames.shape[0] if isinstance(frames.shape[0], int) else _CACHED_FRAMES

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not len(frames):
            return np.zeros((0, *self._shape), np.float32)
        parts = [
            self._session.run(None, {self._input: frames[at : at + self._batch]})[0]
            for at in range(0, len(frames), self._batch)
        ]
        return np.concatenate(parts)


def open_session(model: bytes, num_threads: int) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class TorchBackbone:
    """A network in PyTorch, on a device.

    Args:
        spec: of the backbone.
        network: with its weights; it is moved to the device.
        device: as PyTorch names it.
        precision: of convolutions and matrix products; weights, the scaling of pixels and the mean
            over the grid stay in float32.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        network: FrameNetwork,
        device: str = "cpu",
        precision: Precision = "float32",
    ) -> None:
        # What is called float32 has to be: TF32 keeps ten bits of its 23.
        torch.backends.cudnn.allow_tf32 = False
        self._shape = spec.shape
        self._device = torch.device(device)
        self._half = None if precision == "float32" else getattr(torch, precision)
        # Channels last: the order in which a GPU's convolutions in half precision are fastest.
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not len(frames):
            return np.zeros((0, *self._shape), np.float32)
        half = torch.autocast(self._device.type, self._half, enabled=self._half is not None)
        with torch.inference_mode(), half:
            parts = [
                self._network(torch.from_numpy(frames[at : at + BATCH]).to(self._device)).cpu()
                for at in range(0, len(frames), BATCH)
            ]
        return np.ascontiguousarray(torch.cat(parts).numpy())
