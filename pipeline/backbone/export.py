"""A network of PyTorch as an ONNX file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import re
import warnings
from collections.abc import Callable
from importlib import metadata

import torch

from pipeline.backbone.cache import made_once
from pipeline.backbone.network import FrameNetwork
from pipeline.backbone.spec import BackboneSpec
from pipeline.errors import UserError

# What the exported file depends on besides the specification.
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "timm")


def exported(spec: BackboneSpec, make_network: Callable[[], FrameNetwork]) -> bytes:
    """A backbone as an ONNX file, exported once and kept in the user's cache folder."""
    versions = [_version(package) for package in _PACKAGES]
    address = hashlib.sha256(f"{spec}|{versions}".encode()).hexdigest()[:16]
    plain_name = re.sub(r"[^\w.]+", "-", spec.name)
    return made_once(f"{plain_name}-{address}.export", lambda: export(spec, make_network()))


def export(spec: BackboneSpec, network: FrameNetwork) -> bytes:
    """A network as an ONNX file: "frames" uint8 [N, H, W, 3] -> "features" [N, *shape].

    Raises:
        UserError: the file would not fit into ONNX' one part.
    """
    example = torch.zeros(2, spec.size, spec.size, 3, dtype=torch.uint8)
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                input_names=["frames"],
                output_names=["features"],
                dynamic_shapes={"frames": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)
    assert program is not None
    if sum(value.nbytes for value in network.state_dict().values()) >= 2**31:
        raise UserError(f"backbone: {spec.name!r} has 2 GB of weights or more, allowed: less")
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
