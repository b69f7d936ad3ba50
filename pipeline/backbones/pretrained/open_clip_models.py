"""Image encoders of the open_clip library, an optional dependency, for models that timm lacks.

Their names have the form `open_clip:NAME[/TAG][,weights=FILE]`. NAME is the name of a model in
open_clip, such as `ViT-B-32`, and TAG one of its sets of weights, such as `laion2b_s34b_b79k`,
which the library downloads. FILE contains weights of the whole model to use instead; no code in it
is executed. With a FILE, a TAG is necessary only if the model's tags prepare their pictures in
different ways: pictures are then prepared as for the TAG. The pooled feature is the image
embedding, before it is normalised, and the grid is the last map of patches.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

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
from intertitle.pipeline.backbones.spec import BackboneSpec, Precision
from intertitle.pipeline.errors import UserError

PREFIX = "open_clip:"
SYNTAX = "open_clip:NAME[/TAG][,weights=FILE]"

# Precision on a GPU: bfloat16 has the range of float32, which any network of the library may need.
GPU_PRECISION: Precision = "bfloat16"

_OUTPUTS = {
    "pooled": "the image embedding, not normalised",
    "grid": "the last map of patches, row by row",
}


@dataclass(frozen=True, slots=True)
class _Name:
    """The parts of a name with the form `SYNTAX`."""

    model: str
    tag: str | None
    file: Path | None

    def __str__(self) -> str:
        tag = f"/{self.tag}" if self.tag else ""
        weights = f"{FILE_OPTION}{self.file.name}" if self.file else ""
        return f"{PREFIX}{self.model}{tag}{weights}"


def _parse(name: str) -> _Name:
    open_clip = _import_open_clip()
    rest, file = split_file(name.removeprefix(PREFIX))
    model, slash, tag = rest.partition("/")
    if not model or (slash and not tag):
        raise UserError(f"backbone: {name!r}, allowed: {SYNTAX}")
    # Only names of models are allowed, although open_clip also accepts addresses of repositories.
    known = open_clip.list_models()
    if model not in known:
        near = ", ".join(difflib.get_close_matches(model, known, n=4, cutoff=0.4))
        raise UserError(f"backbone: open_clip has no model {model!r}, nearest: {near}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags and (tag or not file):
        of_tags = [f"{PREFIX}{model}/{known_tag}" for known_tag in tags]
        allowed = ", ".join([*of_tags, f"{PREFIX}{model}{FILE_OPTION}FILE"])
        raise UserError(f"backbone: {name!r}, allowed: {allowed}")
    return _Name(model, tag or None, file)


def make_spec(name: str, features: str, sha256: str | None) -> BackboneSpec:
    """Make the specification of an image encoder.

    The model is loaded, and open_clip downloads its weights the first time.

    Raises:
        UserError: open_clip is not installed or has no such model or weights, or the encoder has no
            such features.
    """
    parsed = _parse(name)
    encoder, sha256 = _pretrained(parsed).for_spec(sha256)
    settings = _settings(parsed, encoder)
    size = settings["size"]
    with torch.inference_mode():
        (output,) = _Encoder(encoder, features)(torch.zeros(1, 3, size, size))
    grid = features == "grid"
    return BackboneSpec(
        str(parsed),
        features,
        size,
        (output.shape[1] * output.shape[2], output.shape[0]) if grid else tuple(output.shape),
        sha256,
        f"RGB, x / 255, mean {tuple(settings['mean'])}, standard deviation "
        f"{tuple(settings['std'])}, trained on {settings['interpolation']} pictures; "
        f"{_OUTPUTS[features]}",
    )


def make_network(spec: BackboneSpec, weights: bytes | None) -> FrameNetwork:
    """Make an encoder with the given weights or, if None, with a cached file's or open_clip's.

    Raises:
        UserError: the weights are not those of the specification.
    """
    parsed = _parse(spec.name)
    return _pretrained(parsed).make_network(spec, weights, partial(_assemble, parsed, spec))


def _assemble(parsed: _Name, spec: BackboneSpec, encoder: nn.Module) -> FrameNetwork:
    settings = _settings(parsed, encoder)
    body = _Encoder(encoder, spec.features)
    return FrameNetwork(
        body, pixel_values(settings["mean"]), pixel_values(settings["std"]), spec.features
    )


class _Encoder(nn.Module):
    """Network from images [N, 3, H, W] to embeddings [N, D], or to a grid [N, D, H', W']."""

    def __init__(self, encoder: Any, features: str) -> None:
        super().__init__()
        self.encoder = encoder
        self._features = features

    def forward(self, images: Tensor) -> Tensor:
        if self._features == "grid":
            maps = self.encoder.forward_intermediates(
                images, indices=1, normalize_intermediates=True, intermediates_only=True
            )
            grid: Tensor = maps["image_intermediates"][-1]
            return grid
        output = self.encoder(images)
        # Some encoders, such as CoCa's, also return tokens.
        embedding: Tensor = output[0] if isinstance(output, tuple) else output
        return embedding


def _settings(parsed: _Name, encoder: Any) -> dict[str, Any]:
    """Return the input settings of an encoder: size, mean, std, interpolation.

    Only the size is that of the encoder. open_clip states the rest with the weights, so that an
    encoder without weights has those of OpenAI's.

    Raises:
        UserError: the encoder takes no squares, or the name leaves the settings open.
    """
    settings = _settings_of_weights(parsed)
    size = encoder.preprocess_cfg["size"]
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if height != width:
        raise UserError(f"backbone: {str(parsed)!r} takes {height} x {width}, allowed: a square")
    return {**settings, "size": int(height)}


def _settings_of_weights(parsed: _Name) -> dict[str, Any]:
    """Return the settings of a tag, or those that all tags of a model share.

    A model without tags has open_clip's defaults.
    """
    open_clip = _import_open_clip()
    model, transform = parsed.model, open_clip.transform
    tags = [parsed.tag] if parsed.tag else open_clip.list_pretrained_tags_by_model(model)
    defaults = asdict(transform.PreprocessCfg())
    settings: dict[str, Any] = {**defaults}
    choices: dict[tuple[Any, ...], str] = {}
    for tag in tags:
        of_tag = open_clip.get_pretrained_cfg(model, tag)
        settings = transform.merge_preprocess_dict(defaults, of_tag)
        values = (*settings["mean"], *settings["std"], settings["interpolation"])
        choices.setdefault(values, f"{PREFIX}{model}/{tag}{FILE_OPTION}FILE")
    if len(choices) > 1:
        raise UserError(
            f"backbone: {str(parsed)!r}: weights of {model} differ in how pictures are prepared, "
            f"allowed: one of their tags with the file, {' or '.join(choices.values())}"
        )
    return settings


def _pretrained(parsed: _Name) -> Pretrained:
    return Pretrained(str(parsed), parsed.file, partial(_create, parsed), partial(_load, parsed))


def _create(parsed: _Name, weights: str | None = None) -> nn.Module:
    model: Any = _import_open_clip().create_model(
        parsed.model,
        pretrained=weights,
        # The text tower is not used, so that its own weights need not be downloaded.
        pretrained_text=False,
        require_pretrained=weights is not None,
        weights_only=True,
    )
    encoder: nn.Module = model.visual
    return encoder.eval()


def _load(parsed: _Name) -> nn.Module:
    """Make an encoder with the weights of its file or, without one, with those of its tag."""
    weights = str(parsed.file) if parsed.file else parsed.tag
    label = f"{PREFIX}{parsed.model}"
    return load_pretrained(label, parsed.file, SYNTAX, partial(_create, parsed, weights))


def _import_open_clip() -> ModuleType:
    return import_library("open_clip", PREFIX)


FAMILY = Family(
    "open_clip",
    make_spec,
    make_network,
    gpu_precision=GPU_PRECISION,
    syntax=SYNTAX,
    summary="an image encoder of open_clip, which downloads its weights",
    extra="open_clip",
)
