"""Backbones: networks, selected by name, that compute features of frames or clips.

    backbone_spec ──► prepare_backbone ──► open_backbone ──► frames -> features
     (driver)            (driver)            (each worker)

`efficientnet_lite0`, `1` and `2` come with Intertitle, `timm:NAME`, `torchvision:NAME` and
`open_clip:NAME` come from these libraries and `onnx:FILE` is any exported network. On a CPU,
backbones run in ONNX Runtime (about six times the speed of eager PyTorch); on a GPU, in PyTorch in
half precision. An ONNX file always runs on the CPU. The networks scale pixel values themselves, so
all take uint8 frames as decoded. The prepared model contains the weights: a worker needs no
download and no file.

Modules that need PyTorch are imported where they are used: PyTorch takes more than a second and
200 MB, and neither the workers that decode nor those with ONNX Runtime need it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from intertitle.pipeline.backbones.spec import (
    BATCH,
    FEATURES,
    Backbone,
    BackboneSpec,
    Precision,
    PreparedModel,
)
from intertitle.pipeline.errors import UserError

if TYPE_CHECKING:
    from intertitle.pipeline.backbones.base import FrameNetwork

__all__ = [
    "BATCH",
    "FEATURES",
    "Backbone",
    "BackboneSpec",
    "Precision",
    "PreparedModel",
    "backbone_spec",
    "open_backbone",
    "precision",
    "prepare_backbone",
]


def backbone_spec(
    name: str, features: str = "pooled", weights_sha256: str | None = None
) -> BackboneSpec:
    """Make the specification of a backbone.

    Args:
        name: name of the backbone, as on the command line. If it names a file, the file is copied
            into the user's cache folder. The specification names the file without its folder and
            is sufficient to find the copy.
        features: "pooled" for one vector per frame, or "grid" for one per cell of the last grid.
        weights_sha256: SHA-256 of the weights in an existing specification, to find its file in
            the cache folder; None to read the file that is named.

    Raises:
        UserError: there is no backbone with that name, or it can't compute such features.
    """
    from intertitle.pipeline.backbones import efficientnet, onnx_models

    if features not in FEATURES:
        raise UserError(f"features: {features!r}, allowed: {', '.join(FEATURES)}")
    if name in efficientnet.NAMES:
        return efficientnet.make_spec(name, features)
    for family in (onnx_models, *_libraries()):
        if name.startswith(family.PREFIX):
            spec: BackboneSpec = family.make_spec(name, features, weights_sha256)
            return spec
    known = [*efficientnet.NAMES, onnx_models.SYNTAX, *(f.SYNTAX for f in _libraries())]
    raise UserError(f"backbone: {name!r}, allowed: {', '.join(known)}")


def precision(spec: BackboneSpec, *, gpu: bool) -> Precision:
    """Return the precision of a backbone: float32 on a CPU, on a GPU that of its family.

    An ONNX file runs unchanged, always in float32 on the CPU.
    """
    from intertitle.pipeline.backbones import onnx_models

    if not gpu or spec.name.startswith(onnx_models.PREFIX):
        return "float32"
    in_half: Precision = _family(spec).GPU_PRECISION
    return in_half


def prepare_backbone(spec: BackboneSpec, compute_in: Precision) -> PreparedModel:
    """Prepare a backbone for the workers that run it.

    For float32 it is exported to an ONNX file, which is cached.

    Args:
        spec: specification of the backbone.
        compute_in: precision to compute in, from `precision`.

    Raises:
        UserError: the weights are not available, or not those of the specification.
        ValueError: the backbone is an ONNX file and the precision is not float32.
    """
    from intertitle.pipeline.backbones import onnx_models
    from intertitle.pipeline.backbones.base import weights_to_bytes
    from intertitle.pipeline.backbones.export import exported

    if spec.name.startswith(onnx_models.PREFIX):
        if compute_in != "float32":
            raise ValueError(f"{spec.name}: an ONNX file runs in float32, not in {compute_in}")
        return PreparedModel("float32", onnx_models.model_bytes(spec))
    if compute_in == "float32":
        return PreparedModel("float32", exported(spec, lambda: _network(spec)))
    return PreparedModel(compute_in, weights_to_bytes(_network(spec)))


def open_backbone(spec: BackboneSpec, num_threads: int, model: PreparedModel) -> Backbone:
    """Open a prepared backbone.

    The precision is fixed when the model is prepared and does not depend on the device, which
    determines only the speed.

    Args:
        spec: specification of the backbone.
        num_threads: number of CPU cores to use.
        model: prepared model, from `prepare_backbone`.
    """
    if model.precision == "float32":
        from intertitle.pipeline.backbones.onnx_runtime import OnnxBackbone

        return OnnxBackbone(spec, model.data, num_threads)
    import torch

    from intertitle.pipeline.backbones.torch_runtime import TorchBackbone

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchBackbone(spec, _network(spec, model.data), device, model.precision)


def _network(spec: BackboneSpec, weights: bytes | None = None) -> FrameNetwork:
    network: FrameNetwork = _family(spec).make_network(spec, weights)
    return network


def _family(spec: BackboneSpec) -> ModuleType:
    from intertitle.pipeline.backbones import efficientnet

    families = (family for family in _libraries() if spec.name.startswith(family.PREFIX))
    return next(families, efficientnet)


def _libraries() -> tuple[ModuleType, ...]:
    """Return the families of networks that come from libraries, whose names have a prefix."""
    from intertitle.pipeline.backbones import timm_models
    from intertitle.pipeline.backbones.pretrained import open_clip_models, torchvision_models

    return timm_models, torchvision_models, open_clip_models
