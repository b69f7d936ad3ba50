"""Export PyTorch networks to ONNX files."""

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

from intertitle.pipeline.backbones.base import FrameNetwork
from intertitle.pipeline.backbones.cache import cached_build
from intertitle.pipeline.backbones.spec import BackboneSpec
from intertitle.pipeline.errors import UserError

# Packages whose versions, like the specification, affect the exported file.
_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "timm", "torchvision", "open_clip_torch")


def exported(spec: BackboneSpec, make_network: Callable[[], FrameNetwork]) -> bytes:
    """Return a backbone as an ONNX file, exported once and cached in the user's cache folder."""
    versions = [_version(package) for package in _PACKAGES]
    address = hashlib.sha256(f"{spec}|{versions}".encode()).hexdigest()[:16]
    plain_name = re.sub(r"[^\w.]+", "-", spec.name)
    return cached_build(f"{plain_name}-{address}.export", lambda: export(spec, make_network()))


def export(spec: BackboneSpec, network: FrameNetwork) -> bytes:
    """Export a network to an ONNX file.

    Its input is "frames", uint8 [N, H, W, 3], or clips [N, window, H, W, 3], and its output
    "features", float32 [N, *shape].

    Raises:
        UserError: the weights take 2 GB or more, which does not fit into a single ONNX file.
    """
    clip = () if spec.window == 1 else (spec.window,)
    example = torch.zeros(2, *clip, spec.size, spec.size, 3, dtype=torch.uint8)
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
