"""A convolutional network by name: frames in, features out.

    backbone_spec ──► prepare_backbone ──► open_backbone ──► frames -> features
     (driver)            (driver)            (each worker)

`efficientnet_lite0`, `1` and `2` come with the project, `timm:NAME` from the timm library and
`onnx:FILE` is any exported network. On a CPU they run in ONNX Runtime (about six times eager
PyTorch), on a GPU in PyTorch, in half precision. Scaling pixel values is inside the network, so all
take plain uint8 frames. What the driver prepares holds the weights: a worker downloads nothing and
needs no file.

Whatever needs PyTorch is imported where it is used: it takes more than a second and 200 MB, and
neither the workers that decode nor those with ONNX Runtime need it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.backbone.spec import (
    BATCH,
    FEATURES,
    Backbone,
    BackboneSpec,
    Precision,
    PreparedModel,
)
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.backbone.network import FrameNetwork

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
    """Look a backbone up.

    Args:
        name: as the command line takes it. A file it names is copied into the user's cache folder:
            the specification names the file without its folder, and is enough to find it again.
        features: "pooled", one vector a frame, or "grid", one for each cell of the last grid.
        weights_sha256: of a specification made before, to find its file in the cache folder.

    Raises:
        UserError: there is none of that name, or it can't give such features.
    """
    from pipeline.backbone import efficientnet, onnx_file, timm_model

    if features not in FEATURES:
        raise UserError(f"features: {features!r}, allowed: {', '.join(FEATURES)}")
    if name in efficientnet.NAMES:
        return efficientnet.make_spec(name, features)
    if name.startswith(timm_model.PREFIX):
        return timm_model.make_spec(name, features, weights_sha256)
    if name.startswith(onnx_file.PREFIX):
        return onnx_file.make_spec(name, features, weights_sha256)
    known = (*efficientnet.NAMES, timm_model.SYNTAX, onnx_file.SYNTAX)
    raise UserError(f"backbone: {name!r}, allowed: {', '.join(known)}")


def precision(spec: BackboneSpec, *, gpu: bool) -> Precision:
    """What a backbone computes in: float32 on a CPU, on a GPU what its family bears.

    An ONNX file runs as it is, on the CPU everywhere.
    """
    from pipeline.backbone import onnx_file

    if not gpu or spec.name.startswith(onnx_file.PREFIX):
        return "float32"
    in_half: Precision = _family(spec).GPU_PRECISION
    return in_half


def prepare_backbone(spec: BackboneSpec, compute_in: Precision) -> PreparedModel:
    """What a worker needs to run a backbone, made once: for a CPU an ONNX file, exported and kept.

    Args:
        spec: of the backbone.
        compute_in: from `precision`.

    Raises:
        UserError: the weights are not to be had, or not those of the specification.
    """
    from pipeline.backbone import onnx_file
    from pipeline.backbone.export import exported
    from pipeline.backbone.network import weights_to_bytes

    if spec.name.startswith(onnx_file.PREFIX):
        if compute_in != "float32":
            raise ValueError(f"{spec.name}: an ONNX file runs in float32, not in {compute_in}")
        return PreparedModel("float32", onnx_file.model_bytes(spec))
    if compute_in == "float32":
        return PreparedModel("float32", exported(spec, lambda: _network(spec)))
    return PreparedModel(compute_in, weights_to_bytes(_network(spec)))


def open_backbone(spec: BackboneSpec, num_threads: int, model: PreparedModel) -> Backbone:
    """Open what was prepared.

    How it was prepared decides what it computes in, wherever it is opened; where it runs decides
    only how long it takes.

    Args:
        spec: of the backbone.
        num_threads: cores to use on a CPU.
        model: from `prepare_backbone`.
    """
    if model.precision == "float32":
        from pipeline.backbone.onnx_runtime import OnnxBackbone

        return OnnxBackbone(spec, model.data, num_threads)
    import torch

    from pipeline.backbone.torch_runtime import TorchBackbone

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchBackbone(spec, _network(spec, model.data), device, model.precision)


def _network(spec: BackboneSpec, weights: bytes | None = None) -> FrameNetwork:
    network: FrameNetwork = _family(spec).make_network(spec, weights)
    return network


def _family(spec: BackboneSpec) -> ModuleType:
    from pipeline.backbone import efficientnet, timm_model

    return timm_model if spec.name.startswith(timm_model.PREFIX) else efficientnet
