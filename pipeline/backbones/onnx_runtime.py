"""Run a network in ONNX Runtime, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.backbones.spec import BackboneSpec, as_clips

# Frames or clips per call. The activations of so few frames fit into a core's cache; 32 are a
# tenth slower.
_CACHED_FRAMES = 4


class OnnxBackbone:
    """Backbone that runs in ONNX Runtime, on the CPU.

    Args:
        spec: specification of the backbone.
        model: bytes of an ONNX file with one input, uint8 [N, H, W, 3], and one output,
            [N, *shape].
        num_threads: number of CPU cores to use.
    """

    def __init__(self, spec: BackboneSpec, model: bytes, num_threads: int) -> None:
        self._shape, self._window = spec.shape, spec.window
        self._session = open_session(model, num_threads)
        (frames,) = self._session.get_inputs()
        self._input = frames.name
        # The batch size of a file may be fixed to one frame.
        self._batch = frames.shape[0] if isinstance(frames.shape[0], int) else _CACHED_FRAMES

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        if not len(frames):
            return np.zeros((0, *self._shape), np.float32)
        frames = as_clips(frames, self._window)
        parts = [
            self._session.run(None, {self._input: frames[at : at + self._batch]})[0]
            for at in range(0, len(frames), self._batch)
        ]
        return np.concatenate(parts)


def open_session(model: bytes, num_threads: int) -> Any:
    """Open an ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
