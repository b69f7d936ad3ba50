"""Backbones from ONNX files, for any exported network: `onnx:FILE[,size=S]`.

The network has one input, uint8 [N, H, W, 3] or float32 [N, 3, H, W], with H = W. If it is float32,
nodes before the graph normalise RGB frames with ImageNet's mean and standard deviation. The network
has one output, float32: a grid [N, D, H', W'] or, for pooled features, [N, D]. N is dynamic or 1.
If H and W are dynamic in the file, `size` sets them. The file runs unchanged otherwise, in float32
on the CPU.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from intertitle.pipeline.backbones.cache import write_cached
from intertitle.pipeline.backbones.families import Family
from intertitle.pipeline.backbones.onnx_graph import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    begin_with_frames,
    describe_value,
    end_in_features,
    tensors_of,
)
from intertitle.pipeline.backbones.onnx_runtime import open_session
from intertitle.pipeline.backbones.spec import BackboneSpec, describe_output
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.paths import cache_folder

PREFIX = "onnx:"
SYNTAX = "onnx:FILE[,size=S]"
# Minimum opset that ONNX Runtime supports.
_MIN_OPSET = 7
_MAX_SIZE = 4096


@dataclass(frozen=True, slots=True)
class _Name:
    """The parts of a name with the form `SYNTAX`."""

    path: Path
    size: int | None

    def __str__(self) -> str:
        return f"{PREFIX}{self.path.name}" + (f",size={self.size}" if self.size else "")


def _parse(name: str) -> _Name:
    file, separator, size = name.removeprefix(PREFIX).partition(",size=")
    if not file or (separator and not (size.isdecimal() and 1 <= int(size) <= _MAX_SIZE)):
        raise UserError(f"backbone: {name!r}, allowed: {SYNTAX}, S from 1 to {_MAX_SIZE}")
    return _Name(Path(file), int(size) if separator else None)


def make_spec(name: str, features: str, sha256: str | None) -> BackboneSpec:
    """Make the specification of a file, and copy the file into the user's cache folder.

    Raises:
        UserError: there is no such file, or it is not a network as the module describes it.
    """
    parsed = _parse(name)
    data = _read(parsed, sha256)
    sha256 = hashlib.sha256(data).hexdigest()
    model, size, preprocessing = _with_frames(parsed, data)
    session: Any = _session(parsed, model)
    output = _run(parsed, session, size)
    shape = _shape(parsed, output, features)
    if _kept_file(sha256) != parsed.path:
        write_cached(_kept_file(sha256), data)
    output_note = "" if output.ndim == 2 else f", {describe_output(features)}"
    return BackboneSpec(str(parsed), features, size, shape, sha256, preprocessing + output_note)


def model_bytes(spec: BackboneSpec) -> bytes:
    """Return an ONNX file that maps frames, uint8 [N, H, W, 3], to features [N, *shape].

    Raises:
        UserError: the copy in the cache folder is missing or damaged.
    """
    parsed = _parse(spec.name)
    data = _read(parsed, spec.weights_sha256)
    model, size, _ = _with_frames(parsed, data)
    if _run(parsed, _session(parsed, model), size).ndim == 4:
        end_in_features(model.graph, spec.features)
    return bytes(model.SerializeToString())


def _kept_file(sha256: str) -> Path:
    return cache_folder() / f"{sha256}.onnx"


def _read(parsed: _Name, sha256: str | None) -> bytes:
    """Read a file; if a hash is given, the file with that hash, from the cache or at its path."""
    if sha256 is None:
        try:
            return parsed.path.read_bytes()
        except OSError as error:
            raise UserError(f"backbone: {str(parsed.path)!r}: {error.strerror}") from error
    cached_file = _kept_file(sha256)
    for path in (cached_file, parsed.path):
        if path.is_file():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
    raise UserError(
        f"backbone: {str(parsed)!r}: the file with sha256 {sha256} is not on this machine; "
        f"copy it to {cached_file}"
    )


def _with_frames(parsed: _Name, data: bytes) -> tuple[onnx.ModelProto, int, str]:
    """Load a network and make uint8 frames its input.

    Returns:
        The network, height and width of its frames in pixels, and a description of the
        preprocessing.

    Raises:
        UserError: the file is not a network as the module describes it.
    """
    try:
        model = onnx.load_from_string(data)
    # For damaged data, protobuf raises an error class that onnx does not export.
    except Exception as error:
        raise UserError(f"backbone: {str(parsed)!r} is not an ONNX file") from error
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in tensors_of(model)):
        raise UserError(
            f"backbone: {str(parsed)!r} keeps weights in other files, "
            "allowed: one file that holds them all"
        )
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < _MIN_OPSET:
        raise UserError(f"backbone: {str(parsed)!r} has opset {opset}, allowed: {_MIN_OPSET} on")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise UserError(
            f"backbone: {str(parsed)!r} has inputs {[value.name for value in inputs]} and outputs "
            f"{[value.name for value in model.graph.output]}, allowed: one of each"
        )
    (image,) = inputs
    kind = image.type.tensor_type.elem_type
    dims = [
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in image.type.tensor_type.shape.dim
    ]
    is_frames = kind == TensorProto.UINT8 and len(dims) == 4 and dims[3] == 3
    is_images = kind == TensorProto.FLOAT and len(dims) == 4 and dims[1] == 3
    if not (is_frames or is_images) or dims[0] not in (None, 1):
        raise UserError(
            f"backbone: {str(parsed)!r} takes {describe_value(image)}, "
            "allowed: uint8 [N, H, W, 3] or float32 [N, 3, H, W], N free or 1"
        )
    size = _size(parsed, image, dims[1:3] if is_frames else dims[2:])
    if is_frames:
        return model, size, "RGB, uint8 as decoded"
    begin_with_frames(model.graph, image, size)
    return (
        model,
        size,
        f"RGB, x / 255, ImageNet's mean {IMAGENET_MEAN} and standard deviation {IMAGENET_STD} "
        "put before the graph",
    )


def _size(parsed: _Name, image: onnx.ValueInfoProto, sides: list[int | None]) -> int:
    known = {side for side in [*sides, parsed.size] if side is not None}
    if not known:
        raise UserError(
            f"backbone: {str(parsed)!r} takes {describe_value(image)} of any height and width, "
            f"allowed: {PREFIX}{parsed.path.name},size=S"
        )
    if len(known) > 1:
        requested = f", not {parsed.size}" if parsed.size else ""
        raise UserError(
            f"backbone: {str(parsed)!r} takes {describe_value(image)}{requested}, allowed: a square"
        )
    return known.pop()


def _session(parsed: _Name, model: onnx.ModelProto) -> Any:
    try:
        return open_session(model.SerializeToString(), num_threads=1)
    # ONNX Runtime has a separate error class for each way in which a file can be invalid.
    except Exception as error:
        raise UserError(f"backbone: {str(parsed)!r}: {str(error).splitlines()[0]}") from error


def _run(parsed: _Name, session: Any, size: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the output of the network for one black frame."""
    try:
        (output,) = session.run(
            None, {session.get_inputs()[0].name: np.zeros((1, size, size, 3), np.uint8)}
        )
    except Exception as error:
        raise UserError(f"backbone: {str(parsed)!r}: {str(error).splitlines()[0]}") from error
    return np.asarray(output)


def _shape(parsed: _Name, output: np.ndarray[Any, np.dtype[Any]], features: str) -> tuple[int, ...]:
    shape = output.shape
    if output.dtype == np.float32 and shape[:1] == (1,):
        if len(shape) == 4 and shape[2] == shape[3]:
            return (shape[1],) if features == "pooled" else (shape[2] * shape[3], shape[1])
        if len(shape) == 2 and features == "pooled":
            return (shape[1],)
    allowed = "[N, D, H, W]" if features == "grid" else "[N, D] or [N, D, H, W]"
    raise UserError(
        f"backbone: {str(parsed)!r} gives {output.dtype} {list(shape)} for one frame, "
        f"allowed for features {features!r}: float32 {allowed}"
    )


FAMILY = Family(
    "onnx",
    make_spec,
    model_bytes=model_bytes,
    syntax=SYNTAX,
    summary="an exported network of your own",
)
