"""Backbones: networks, selected by name, that compute features of frames or clips.

    backbone_spec ──► prepare_backbone ──► open_backbone ──► frames -> features
     (driver)            (driver)            (each worker)

`efficientnet_lite0`, `1` and `2` come with Intertitle, `timm:NAME`, `torchvision:NAME` and
`open_clip:NAME` come from these libraries, `onnx:FILE` is any exported network, and packages add
further families (`families.py`). On a CPU,
backbones run in ONNX Runtime (about six times the speed of eager PyTorch); on a GPU, in PyTorch in
half precision. An ONNX file always runs on the CPU. The networks scale pixel values themselves, so
all take uint8 frames as decoded. The prepared model contains the weights: a worker needs no
download and no file.

Modules that need PyTorch are imported where they are used: PyTorch takes more than a second and
200 MB, and neither the workers that decode nor those with ONNX Runtime need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from intertitle.pipeline.backbones.families import family_of
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
    if features not in FEATURES:
        raise UserError(f"features: {features!r}, allowed: {', '.join(FEATURES)}")
    return family_of(name).make_spec(name, features, weights_sha256)


def precision(spec: BackboneSpec, *, gpu: bool) -> Precision:
    """Return the precision of a backbone: float32 on a CPU, on a GPU that of its family.

    An ONNX file runs unchanged, always in float32 on the CPU.
    """
    if not gpu:
        return "float32"
    family = family_of(spec.name)
    return "float32" if family.make_network is None else family.gpu_precision


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
    from intertitle.pipeline.backbones.base import weights_to_bytes
    from intertitle.pipeline.backbones.export import exported

    model_bytes = family_of(spec.name).model_bytes
    if model_bytes is not None:
        if compute_in != "float32":
            raise ValueError(f"{spec.name}: an ONNX file runs in float32, not in {compute_in}")
        return PreparedModel("float32", model_bytes(spec))
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
    make_network = family_of(spec.name).make_network
    assert make_network is not None
    return make_network(spec, weights)
