"""Networks of the timm library (VGG, ResNet, ...): an extra, whose weights timm downloads.

`timm:NAME[@LAYER][,weights=FILE]`. NAME is timm's. LAYER is a submodule (`layer4` of a ResNet),
or `fc6` and `fc7` of a VGG, both after their ReLU as captioning takes them (Venugopalan et al.
2015, S2VT); without one the features are those of the last grid, before any classifier. FILE holds
weights instead of those timm would download, in the safetensors format or PyTorch's; nothing in it
is executed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.backbone.cache import write_cached
from pipeline.backbone.network import (
    FrameNetwork,
    load_weights,
    weights_sha256,
    weights_to_bytes,
)
from pipeline.backbone.spec import BackboneSpec, Precision, describe_output
from pipeline.errors import UserError
from pipeline.location import cache_folder

PREFIX = "timm:"
SYNTAX = "timm:NAME[@LAYER][,weights=FILE]"

# On a GPU: as large as float32 goes, which any network of the library may need.
GPU_PRECISION: Precision = "bfloat16"

# The names that papers use, and the submodule of timm's that gives the same after its ReLU.
_VGG_LAYERS = {"fc6": "pre_logits.act1", "fc7": "pre_logits.act2"}

# torchvision asks for these when it is imported; see `_import_timm`.
_OPERATORS = ("nms", "qnms")
_OPERATOR_ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None


@dataclass(frozen=True, slots=True)
class _Name:
    """`SYNTAX`, taken apart."""

    model: str
    layer: str | None
    file: Path | None

    def __str__(self) -> str:
        layer = f"@{self.layer}" if self.layer else ""
        weights = f",weights={self.file.name}" if self.file else ""
        return f"{PREFIX}{self.model}{layer}{weights}"


def _parse(name: str) -> _Name:
    timm = _import_timm()
    rest, given, file = name.removeprefix(PREFIX).partition(",weights=")
    model, at, layer = rest.partition("@")
    if not model or (at and not layer) or (given and not file) or "," in rest:
        raise UserError(f"backbone: {name!r}, allowed: {SYNTAX}")
    # A network's name alone: timm would also take the address of someone's repository.
    if not timm.is_model(model.partition(".")[0]):
        near = difflib.get_close_matches(model, timm.list_models(), n=4, cutoff=0.4)
        raise UserError(f"backbone: timm has no network {model!r}, nearest: {', '.join(near)}")
    # The pooled grid is what there is without a layer: one name for it, one fingerprint.
    return _Name(model, None if layer in ("", "pool") else layer, Path(file) if file else None)


def make_spec(name: str, features: str, sha256: str | None) -> BackboneSpec:
    """The specification of a network, which is loaded for it: downloaded, the first time.

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
    """The network with timm's weights or a kept file's, or with those given.

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
    """Images [N, 3, H, W] -> the last grid of a network, [N, D, H', W']."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        grid: Tensor = self.model.forward_features(images)  # type: ignore[operator]
        return grid


class _Layer(nn.Module):
    """Images [N, 3, H, W] -> what one submodule of a network gives."""

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model = model
        self._outputs: list[Tensor] = []
        model.get_submodule(layer).register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            # A copy: the next layer may write its own output over this one.
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
    """Of one frame's features; a square picture has a square grid, so its sides are known."""
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
    """How the network wants its pictures: input_size, mean, std, interpolation."""
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
    """The network with the weights of its file, or with those timm downloads and keeps."""
    overlay = {"file": str(parsed.file), "source": ""} if parsed.file else {}
    if parsed.file and not parsed.file.is_file():
        raise UserError(f"backbone: {str(parsed.file)!r}: no such file of weights")
    try:
        # timm only warns about some networks that it has no weights of.
        if not (parsed.file or _import_timm().get_pretrained_cfg(parsed.model).has_weights):
            raise LookupError("timm has none")
        return _create(parsed, pretrained=True, pretrained_cfg_overlay=overlay)
    # A download or a file can fail in many ways, and each library has errors of its own.
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
    """Load weights that `make_spec` kept."""
    kept = _kept_file(sha256)
    try:
        load_weights(model, kept.read_bytes())
    # A missing file, a damaged one, or weights of another network.
    except Exception as error:
        raise UserError(_not_here(parsed, kept)) from error
    if weights_sha256(model) != sha256:
        raise UserError(_not_here(parsed, kept))


def _not_here(parsed: _Name, kept: Path) -> str:
    return (
        f"backbone: {str(parsed)!r}: its weights are not on this machine; "
        f"copy {kept.name} from the one that made the features to {kept.parent}"
    )


def _import_timm() -> ModuleType:
    """The timm library.

    Raises:
        UserError: it is not installed, or can't be used.
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
        # A torchvision made for another build of torch (a GPU's, beside one for the CPU) can't load
        # its operators and fails for want of their names. timm needs none of them.
        _library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for operator in _OPERATORS:
            _library.define(operator + _OPERATOR_ARGUMENTS)  # type: ignore[no-untyped-call]
        return _import_timm()
    return timm
