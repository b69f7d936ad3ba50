"""Video networks of torchvision, an optional dependency: one feature a clip of frames.

Their names have the form `torchvision:NAME[,weights=FILE]`. NAME is one of `NAMES`, whose weights
of Kinetics-400 torchvision downloads: the ResNets of Tran et al. (2018), R(2+1)D among them, and
S3D (Xie et al. 2018). FILE contains weights to use instead, in the safetensors format or in
PyTorch's; no code in it is executed. The features are the input of the classifier.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from intertitle.pipeline.backbones.base import FrameNetwork, pixel_values
from intertitle.pipeline.backbones.families import Family
from intertitle.pipeline.backbones.pretrained.libraries import import_library
from intertitle.pipeline.backbones.pretrained.weights import (
    FILE_OPTION,
    Pretrained,
    load_pretrained,
    split_file,
)
from intertitle.pipeline.backbones.spec import BackboneSpec, Precision, describe_crop
from intertitle.pipeline.errors import UserError

PREFIX = "torchvision:"
SYNTAX = "torchvision:NAME[,weights=FILE]"
NAMES = ("mc3_18", "r2plus1d_18", "r3d_18", "s3d")

# Number of frames of a clip: what the ResNets were trained with, and S3D takes 14 or more.
WINDOW = 16

# Precision on a GPU: bfloat16 has the range of float32.
GPU_PRECISION: Precision = "bfloat16"


@dataclass(frozen=True, slots=True)
class _Name:
    """The parts of a name with the form `SYNTAX`."""

    model: str
    file: Path | None

    def __str__(self) -> str:
        weights = f"{FILE_OPTION}{self.file.name}" if self.file else ""
        return f"{PREFIX}{self.model}{weights}"


def _parse(name: str) -> _Name:
    model, file = split_file(name.removeprefix(PREFIX))
    if model not in NAMES:
        allowed = ", ".join(f"{PREFIX}{known}" for known in NAMES)
        raise UserError(f"backbone: {name!r}, allowed: {allowed}, each with {FILE_OPTION}FILE")
    return _Name(model, file)


def make_spec(name: str, features: str, sha256: str | None) -> BackboneSpec:
    """Make the specification of a network.

    The network is loaded, and torchvision downloads its weights the first time.

    Raises:
        UserError: torchvision is not installed or has no such network, the weights are not
            available, or a grid is wanted.
    """
    parsed = _parse(name)
    if features != "pooled":
        raise UserError(f"features: {features!r}, allowed for {name}: pooled, one vector a clip")
    model, sha256 = _pretrained(parsed).for_spec(sha256)
    settings = _settings(parsed)
    crop = settings.crop_size[0]
    body = _Clips(model)
    with torch.inference_mode():
        (feature,) = body(torch.zeros(1, 3, WINDOW, crop, crop))
    return BackboneSpec(
        str(parsed),
        features,
        settings.resize_size[0],
        tuple(feature.shape),
        sha256,
        f"RGB, clips of {WINDOW} frames, {describe_crop(crop)}, x / 255, "
        f"mean {tuple(settings.mean)}, standard deviation {tuple(settings.std)}, "
        f"trained on {settings.interpolation.value} pictures; the input of the classifier",
        WINDOW,
    )


def make_network(spec: BackboneSpec, weights: bytes | None) -> FrameNetwork:
    """Make a network with the given weights or, if None, with a cached file's or torchvision's.

    Raises:
        UserError: the weights are not those of the specification.
    """
    parsed = _parse(spec.name)
    return _pretrained(parsed).make_network(spec, weights, partial(_assemble, parsed))


def _assemble(parsed: _Name, model: nn.Module) -> FrameNetwork:
    settings = _settings(parsed)
    crop = settings.crop_size[0]
    mean, std = pixel_values(settings.mean), pixel_values(settings.std)
    return FrameNetwork(_Clips(model), mean, std, "pooled", crop)


class _Clips(nn.Module):
    """Network from clips [N, 3, F, H, W] to the input of its classifier, [N, D].

    Args:
        model: network of torchvision; its classifier is taken off.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        # The ResNets call theirs `fc`.
        setattr(model, "fc" if hasattr(model, "fc") else "classifier", nn.Identity())
        self.model = model

    def forward(self, clips: Tensor) -> Tensor:
        features: Tensor = self.model(clips)
        return features


def _settings(parsed: _Name) -> Any:
    """Return the preprocessing of the network's default weights: crop_size, mean, std, ..."""
    return _import_torchvision().models.get_model_weights(parsed.model).DEFAULT.transforms()


def _pretrained(parsed: _Name) -> Pretrained:
    return Pretrained(str(parsed), parsed.file, partial(_create, parsed), partial(_load, parsed))


def _create(parsed: _Name) -> nn.Module:
    model: nn.Module = _import_torchvision().models.get_model(parsed.model, weights=None)
    return model.eval()


def _load(parsed: _Name) -> nn.Module:
    """Make a network with the weights of its file or, without one, with torchvision's own."""
    models, file = _import_torchvision().models, parsed.file

    def load() -> nn.Module:
        if file is None:
            downloaded: nn.Module = models.get_model(
                parsed.model, weights="DEFAULT", progress=False
            )
            return downloaded
        model = _create(parsed)
        if file.suffix == ".safetensors":
            state = safetensors.torch.load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
        return model

    return load_pretrained(f"{PREFIX}{parsed.model}", file, SYNTAX, load)


def _import_torchvision() -> ModuleType:
    return import_library("torchvision", PREFIX)


FAMILY = Family(
    "torchvision",
    make_spec,
    make_network,
    gpu_precision=GPU_PRECISION,
    syntax=SYNTAX,
    summary="a network of torchvision for frames or video, which downloads its weights",
    extra="torchvision",
)
