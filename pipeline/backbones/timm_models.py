"""Backbones from the timm library (VGG, ResNet, ...), an optional dependency.

Their names have the form `timm:NAME[@LAYER][,weights=FILE]`. NAME is the name of a model in timm,
which downloads its weights. LAYER is a submodule, such as `layer4` of a ResNet, or `fc6` or `fc7`
of a VGG, both after their ReLU as used in captioning (Venugopalan et al. 2015, S2VT). Without a
layer, the features are those of the last grid, before any classifier. FILE contains weights to use
instead of timm's, in the safetensors format or in PyTorch's; no code in it is executed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from intertitle.pipeline.backbones.base import (
    FrameNetwork,
    load_weights,
    weights_sha256,
    weights_to_bytes,
)
from intertitle.pipeline.backbones.cache import write_cached
from intertitle.pipeline.backbones.spec import BackboneSpec, Precision, describe_output
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import cache_folder

PREFIX = "timm:"
SYNTAX = "timm:NAME[@LAYER][,weights=FILE]"

# Precision on a GPU: bfloat16 has the range of float32, which any network of the library may need.
GPU_PRECISION: Precision = "bfloat16"

# The names of layers in papers, and timm's submodules with the same output, after the ReLU.
_VGG_LAYERS = {"fc6": "pre_logits.act1", "fc7": "pre_logits.act2"}

# Operators that torchvision needs when it is imported; see `_import_timm`.
_OPERATORS = ("nms", "qnms")
_OPERATOR_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None


@dataclass(frozen=True, slots=True)
class _Name:
    """The parts of a name with the form `SYNTAX`."""

    model: str
    layer: str | None
    file: Path | None

    def __str__(self) -> str:
        layer = f"@{self.layer}" if self.layer else ""
        weights = f",weights={self.file.name}" if self.file else ""
        return f"{PREFIX}{self.model}{layer}{weights}"


def _parse(name: str) -> _Name:
    timm = _import_timm()
    rest, separator, file = name.removeprefix(PREFIX).partition(",weights=")
    model, at, layer = rest.partition("@")
    if not model or (at and not layer) or (separator and not file) or "," in rest:
        raise UserError(f"backbone: {name!r}, allowed: {SYNTAX}")
    # Only names of networks are allowed, although timm also accepts addresses of repositories.
    if not timm.is_model(model.partition(".")[0]):
        near = difflib.get_close_matches(model, timm.list_models(), n=4, cutoff=0.4)
        raise UserError(f"backbone: timm has no network {model!r}, nearest: {', '.join(near)}")
    # "pool" means the same as no layer, so it is stored as None: one name gives one fingerprint.
    return _Name(model, None if layer in ("", "pool") else layer, Path(file) if file else None)


def make_spec(name: str, features: str, sha256: str | None) -> BackboneSpec:
    """Make the specification of a network.

    The network is loaded, and timm downloads its weights the first time.

    Raises:
        UserError: timm is not installed or has no such network, layer or weights, or the network
            has no grid of features.
    """
    parsed = _parse(name)
    if parsed.file and sha256:
        model = _create(parsed)
        _load_kept(model, parsed, sha256)
    else:
        model = _create_pretrained(parsed)
        sha256 = weights_sha256(model)
        if parsed.file:
            write_cached(_kept_file(sha256), weights_to_bytes(model))
    settings = _settings(parsed, model)
    size = settings["input_size"][-1]
    network = _frame_network(parsed, model, settings, features)
    with torch.inference_mode():
        output = network.body(torch.zeros(1, 3, size, size))
    return BackboneSpec(
        str(parsed),
        features,
        size,
        _shape(parsed, model, output, features),
        sha256,
        f"RGB, x / 255, mean {settings['mean']}, standard deviation {settings['std']}, "
        f"trained on {settings['interpolation']} pictures; {describe_output(features)}",
    )


def make_network(spec: BackboneSpec, weights: bytes | None) -> FrameNetwork:
    """Make a network with the given weights or, if None, with a cached file's or timm's.

    Raises:
        UserError: the weights are not those of the specification.
    """
    parsed = _parse(spec.name)
    if weights is None and parsed.file is None:
        model = _create_pretrained(parsed)
        if weights_sha256(model) != spec.weights_sha256:
            raise UserError(
                f"backbone: {spec.name!r}: timm's weights are not those of before: sha256 "
                f"{weights_sha256(model)} != {spec.weights_sha256}"
            )
    else:
        model = _create(parsed)
        if weights is None:
            _load_kept(model, parsed, spec.weights_sha256)
    network = _frame_network(parsed, model, _settings(parsed, model), spec.features)
    if weights is not None:
        load_weights(network, weights)
    return network


class _LastGrid(nn.Module):
    """Network from images [N, 3, H, W] to its last grid, [N, D, H', W']."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        grid: Tensor = self.model.forward_features(images)  # type: ignore[operator]
        return grid


class _Layer(nn.Module):
    """Network from images [N, 3, H, W] to the output of one of its submodules."""

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
        return outputs[0]


def _frame_network(
    parsed: _Name, model: nn.Module, settings: dict[str, Any], features: str
) -> FrameNetwork:
    body: nn.Module = _LastGrid(model)
    if parsed.layer:
        layers = [name for name, _ in model.named_modules() if name]
        aliases = [name for name, layer in _VGG_LAYERS.items() if layer in layers]
        layer = _VGG_LAYERS[parsed.layer] if parsed.layer in aliases else parsed.layer
        if layer not in layers:
            near = difflib.get_close_matches(layer, layers, n=4)
            first = [name for name, _ in model.named_children()]
            allowed = ", ".join(dict.fromkeys(["pool", *aliases, *first, *near]))
            raise UserError(
                f"backbone: {str(parsed)!r} has no layer {parsed.layer!r}, "
                f"allowed: a submodule, such as {allowed}"
            )
        body = _Layer(model, layer)
    mean = [255.0 * value for value in settings["mean"]]
    std = [255.0 * value for value in settings["std"]]
    return FrameNetwork(body, mean, std, features)


def _shape(parsed: _Name, model: nn.Module, output: Tensor, features: str) -> tuple[int, ...]:
    """Return the shape of one frame's features.

    Frames are square and therefore their grids are, too, which identifies a grid's two sides among
    the dimensions of the output.
    """
    square = output.ndim == 4 and output.shape[2] == output.shape[3]
    if square and getattr(model, "output_fmt", "NCHW") == "NCHW":
        cells, width = output.shape[2] * output.shape[3], output.shape[1]
        return (width,) if features == "pooled" else (cells, width)
    if output.ndim == 2 and parsed.layer and features == "pooled":
        return (output.shape[1],)
    allowed = "[N, D, H, W]" if features == "grid" else "[N, D, H, W], or of a layer [N, D]"
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


def _create(parsed: _Name, **weights: Any) -> nn.Module:
    model: nn.Module = _import_timm().create_model(parsed.model, **weights)
    return model.eval()


def _create_pretrained(parsed: _Name) -> nn.Module:
    """Make a network with the weights of its file or, without one, with timm's own."""
    overlay = {"file": str(parsed.file), "source": ""} if parsed.file else {}
    if parsed.file and not parsed.file.is_file():
        raise UserError(f"backbone: {str(parsed.file)!r}: no such file of weights")
    try:
        # For some networks without weights, timm only logs a warning.
        if not (parsed.file or _import_timm().get_pretrained_cfg(parsed.model).has_weights):
            raise LookupError("timm has none")
        return _create(parsed, pretrained=True, pretrained_cfg_overlay=overlay)
    # A download or a file can fail in many ways, and every library has its own error classes.
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        source = (
            f"{parsed.file}: not weights of it" if parsed.file else "its weights are not to be had"
        )
        hint = "" if parsed.file else f"; a file can be given, {SYNTAX}"
        raise UserError(f"backbone: {PREFIX}{parsed.model}: {source}: {line}{hint}") from error


def _kept_file(sha256: str) -> Path:
    return cache_folder() / f"weights-{sha256}.safetensors"


def _load_kept(model: nn.Module, parsed: _Name, sha256: str) -> None:
    """Load weights that `make_spec` cached."""
    cached_file = _kept_file(sha256)
    try:
        load_weights(model, cached_file.read_bytes())
    # The file is missing or damaged, or has weights of another network.
    except Exception as error:
        raise UserError(_not_here(parsed, cached_file)) from error
    if weights_sha256(model) != sha256:
        raise UserError(_not_here(parsed, cached_file))


def _not_here(parsed: _Name, cached_file: Path) -> str:
    return (
        f"backbone: {str(parsed)!r}: its weights are not on this machine; "
        f"copy {cached_file.name} from the one that made the features to {cached_file.parent}"
    )


def _import_timm() -> ModuleType:
    """Import the timm library.

    Raises:
        UserError: timm is not installed, or can't be used.
    """
    global _library
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"backbone: {PREFIX}... needs timm ({error}): pip install 'intertitle[timm]'"
        ) from error
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _library is not None:
            raise UserError(f"backbone: {PREFIX}...: timm can't be used: {error}") from error
        # A torchvision built for another build of torch (such as one for GPUs, with a torch for the
        # CPU) can't load its operators and fails because their names are not defined. timm needs
        # none of them, so that defining the names is enough.
        _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in _OPERATORS:
            _library.define(operator + _OPERATOR_ARGUMENTS)  # type: ignore[no-untyped-call]
        return _import_timm()
    return timm
