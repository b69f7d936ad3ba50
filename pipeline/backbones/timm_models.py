"""Backbones from the timm library (VGG, ResNet, ViT, CLIP, ...), an optional dependency.

Their names have the form `timm:NAME[@LAYER][,weights=FILE]`. NAME is the name of a model in timm,
which downloads its weights. LAYER is a submodule, such as `layer4` of a ResNet, or `fc6` or `fc7`
of a VGG, both after their ReLU as used in captioning (Venugopalan et al. 2015, S2VT). Without a
layer, the features of a convolutional network are those of the last grid, before any classifier,
and those of a transformer are its tokens (`pretrained.tokens`). FILE contains weights to use
instead of timm's, in the safetensors format or in PyTorch's; no code in it is executed.

A convolutional network sees the whole frame, as networks of captioning papers do. A transformer
sees the central part that timm's own evaluation takes.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from intertitle.pipeline.backbones.base import FrameNetwork, pixel_values
from intertitle.pipeline.backbones.families import Family
from intertitle.pipeline.backbones.pretrained.libraries import import_library
from intertitle.pipeline.backbones.pretrained.tokens import (
    Tokens,
    describe_tokens,
    has_tokens,
    is_square,
    patch_tokens,
)
from intertitle.pipeline.backbones.pretrained.weights import (
    FILE_OPTION,
    Pretrained,
    load_pretrained,
    split_file,
)
from intertitle.pipeline.backbones.spec import (
    BackboneSpec,
    Precision,
    describe_crop,
    describe_output,
)
from intertitle.pipeline.errors import UserError

PREFIX = "timm:"
SYNTAX = "timm:NAME[@LAYER][,weights=FILE]"

# Precision on a GPU: bfloat16 has the range of float32, which any network of the library may need.
GPU_PRECISION: Precision = "bfloat16"

# The names of layers in papers, and timm's submodules with the same output, after the ReLU.
_VGG_LAYERS = {"fc6": "pre_logits.act1", "fc7": "pre_logits.act2"}


@dataclass(frozen=True, slots=True)
class _Name:
    """The parts of a name with the form `SYNTAX`."""

    model: str
    layer: str | None
    file: Path | None

    def __str__(self) -> str:
        layer = f"@{self.layer}" if self.layer else ""
        weights = f"{FILE_OPTION}{self.file.name}" if self.file else ""
        return f"{PREFIX}{self.model}{layer}{weights}"


def _parse(name: str) -> _Name:
    timm = _import_timm()
    rest, file = split_file(name.removeprefix(PREFIX))
    model, at, layer = rest.partition("@")
    if not model or (at and not layer):
        raise UserError(f"backbone: {name!r}, allowed: {SYNTAX}")
    # Only names of networks are allowed, although timm also accepts addresses of repositories.
    if not timm.is_model(model.partition(".")[0]):
        near = difflib.get_close_matches(model, timm.list_models(), n=4, cutoff=0.4)
        raise UserError(f"backbone: timm has no network {model!r}, nearest: {', '.join(near)}")
    # "pool" means the same as no layer, so it is stored as None: one name gives one fingerprint.
    return _Name(model, None if layer in ("", "pool") else layer, file)


def make_spec(name: str, features: str, sha256: str | None) -> BackboneSpec:
    """Make the specification of a network.

    The network is loaded, and timm downloads its weights the first time.

    Raises:
        UserError: timm is not installed or has no such network, layer or weights, or the network
            has no such features.
    """
    parsed = _parse(name)
    model, sha256 = _pretrained(parsed).for_spec(sha256)
    assembled = _assemble(parsed, model, features)
    with torch.inference_mode():
        output = assembled.network.body(torch.zeros(1, 3, assembled.body_size, assembled.body_size))
    shape = _shape(parsed, model, output, features)
    return BackboneSpec(
        str(parsed), features, assembled.size, shape, sha256, assembled.preprocessing
    )


def make_network(spec: BackboneSpec, weights: bytes | None) -> FrameNetwork:
    """Make a network with the given weights or, if None, with a cached file's or timm's.

    Raises:
        UserError: the weights are not those of the specification.
    """
    parsed = _parse(spec.name)
    return _pretrained(parsed).make_network(
        spec, weights, lambda model: _assemble(parsed, model, spec.features).network
    )


@dataclass(frozen=True, slots=True)
class _Assembled:
    """A network with its preprocessing.

    Attributes:
        network: network from frames to features.
        size: height and width of a frame, in pixels.
        body_size: height and width of the part of a frame that the network's body takes.
        preprocessing: description for the fingerprint.
    """

    network: FrameNetwork
    size: int
    body_size: int
    preprocessing: str


def _assemble(parsed: _Name, model: nn.Module, features: str) -> _Assembled:
    settings = _settings(parsed, model)
    size = body_size = settings["input_size"][-1]
    body: nn.Module = _LastGrid(model)
    output, crop, takes = describe_output(features), None, ""
    if has_tokens(model, body_size):
        body = Tokens(model, features)
        output = f"output of {parsed.layer}" if parsed.layer else describe_tokens(features)
        # timm scales a picture to this size and then takes its central part.
        size = math.floor(body_size / settings["crop_pct"])
        if size > body_size:
            crop, takes = body_size, f"{describe_crop(body_size)}, "
    if parsed.layer:
        body = _Layer(model, _layer_name(parsed, model))
    return _Assembled(
        FrameNetwork(
            body, pixel_values(settings["mean"]), pixel_values(settings["std"]), features, crop
        ),
        size,
        body_size,
        f"RGB, {takes}x / 255, mean {settings['mean']}, standard deviation {settings['std']}, "
        f"trained on {settings['interpolation']} pictures; {output}",
    )


class _LastGrid(nn.Module):
    """Network from images [N, 3, H, W] to its last grid, [N, D, H', W']."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._channels_last = _is_channels_last(model)

    def forward(self, images: Tensor) -> Tensor:
        grid: Tensor = self.model.forward_features(images)  # type: ignore[operator]
        return grid.permute(0, 3, 1, 2) if self._channels_last else grid


class _Layer(nn.Module):
    """Network from images [N, 3, H, W] to the output of one of its submodules.

    Prefix tokens are left out of tokens.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model = model
        self._outputs: list[Tensor] = []
        model.get_submodule(layer).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            # Cloned, because the next layer may overwrite the tensor in place.
            self._outputs.append(output.clone())

    def forward(self, images: Tensor) -> Tensor:
        self._outputs = []
        self.model(images)
        outputs, self._outputs = self._outputs, []
        if len(outputs) != 1:
            raise UserError(
                f"backbone: a layer that gives {len(outputs)} tensors a frame, allowed: 1"
            )
        (output,) = outputs
        return patch_tokens(self.model, output) if output.ndim == 3 else output


def _is_channels_last(model: nn.Module) -> bool:
    return getattr(model, "output_fmt", "NCHW") == "NHWC"


def _layer_name(parsed: _Name, model: nn.Module) -> str:
    """Return the name of the submodule that a layer's name stands for."""
    layers = [name for name, _ in model.named_modules() if name]
    aliases = [name for name, layer in _VGG_LAYERS.items() if layer in layers]
    layer = _VGG_LAYERS[parsed.layer] if parsed.layer in aliases else parsed.layer
    if layer not in layers:
        near = difflib.get_close_matches(str(layer), layers, n=4)
        first = [name for name, _ in model.named_children()]
        allowed = ", ".join(dict.fromkeys(["pool", *aliases, *first, *near]))
        raise UserError(
            f"backbone: {str(parsed)!r} has no layer {parsed.layer!r}, "
            f"allowed: a submodule, such as {allowed}"
        )
    return str(layer)


def _shape(parsed: _Name, model: nn.Module, output: Any, features: str) -> tuple[int, ...]:
    """Return the shape of one frame's features.

    Frames are square and therefore their grids are, too, which identifies a grid's two sides among
    the dimensions of the output.
    """
    if not isinstance(output, Tensor):
        raise UserError(
            f"backbone: {str(parsed)!r} gives a {type(output).__name__}, allowed: one tensor"
        )
    square = output.ndim == 4 and output.shape[2] == output.shape[3]
    if square and not (parsed.layer and _is_channels_last(model)):
        cells, width = output.shape[2] * output.shape[3], output.shape[1]
        return (width,) if features == "pooled" else (cells, width)
    if output.ndim == 3 and features == "grid" and is_square(output.shape[1]):
        return (output.shape[1], output.shape[2])
    if output.ndim == 2 and features == "pooled":
        return (output.shape[1],)
    allowed = "[N, D, H, W] or a square of tokens [N, cells, D]"
    if features == "pooled":
        allowed = "[N, D, H, W] or [N, D]"
    raise UserError(
        f"backbone: {str(parsed)!r} gives {list(output.shape)}, "
        f"allowed for features {features!r}: {allowed}"
    )


def _settings(parsed: _Name, model: nn.Module) -> dict[str, Any]:
    """Return the input settings of a network: input_size, mean, std, interpolation."""
    settings: dict[str, Any] = _import_timm().data.resolve_model_data_config(model)
    channels, height, width = settings["input_size"]
    if channels != 3 or height != width:
        raise UserError(
            f"backbone: {str(parsed)!r} takes {settings['input_size']}, allowed: (3, S, S)"
        )
    return settings


def _pretrained(parsed: _Name) -> Pretrained:
    return Pretrained(str(parsed), parsed.file, partial(_create, parsed), partial(_load, parsed))


def _create(parsed: _Name, **weights: Any) -> nn.Module:
    model: nn.Module = _import_timm().create_model(parsed.model, **weights)
    return model.eval()


def _load(parsed: _Name) -> nn.Module:
    """Make a network with the weights of its file or, without one, with timm's own."""
    overlay = {"file": str(parsed.file), "source": ""} if parsed.file else {}

    def load() -> nn.Module:
        # For some networks without weights, timm only logs a warning.
        if not (parsed.file or _import_timm().get_pretrained_cfg(parsed.model).has_weights):
            raise LookupError("timm has none")
        return _create(parsed, pretrained=True, pretrained_cfg_overlay=overlay)

    return load_pretrained(f"{PREFIX}{parsed.model}", parsed.file, SYNTAX, load)


def _import_timm() -> ModuleType:
    return import_library("timm", PREFIX)


FAMILY = Family(
    "timm",
    make_spec,
    make_network,
    gpu_precision=GPU_PRECISION,
    syntax=SYNTAX,
    summary="a network of the timm library, which downloads its weights",
    extra="timm",
)
