"""Types and constants that all backbones share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

# Frames per call: enough to use all cores. The features do not depend on it.
BATCH = 32

FEATURES = ("pooled", "grid")

# What `describe_crop` returns.
_CROP = re.compile(r"central (\d+) x \1")

Precision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Specification of a backbone: everything that determines its features.

    Attributes:
        name: name as on the command line, but with a file's name instead of its path.
        features: "pooled" or "grid".
        size: height and width of the input, in pixels.
        shape: shape of one frame's features: (D,) if pooled, (cells, D) for a grid, row by row.
        weights_sha256: SHA-256 of the file that contains the weights, or of the weights themselves.
        preprocessing: description of how uint8 pixels become the input, and the output features.
        window: number of frames of a clip that one feature is computed from; 1 for a network of
            single frames.
    """

    name: str
    features: str
    size: int
    shape: tuple[int, ...]
    weights_sha256: str
    preprocessing: str
    window: int = 1


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A backbone that is prepared to be sent to the workers.

    Attributes:
        precision: data type that it computes in.
        data: bytes of an ONNX file for float32, otherwise of the weights in the safetensors format.
    """

    precision: Precision
    data: bytes


class Backbone(Protocol):
    """Function from frames, uint8 [N, H, W, 3], to features, float32 [N, *shape]; N may be 0.

    A network of clips takes the frames of N clips one after the other, [N * window, H, W, 3].
    """

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]: ...


def as_clips(frames: NDArray[np.uint8], window: int) -> NDArray[np.uint8]:
    """Group frames into clips, [N * window, H, W, 3] -> [N, window, H, W, 3].

    For a window of 1 the frames are returned as they are.
    """
    return frames if window == 1 else frames.reshape(-1, window, *frames.shape[1:])


def central_part(size: int, crop: int) -> slice:
    """Return the rows, or columns, of the central part of a frame, as torchvision's CenterCrop."""
    start = round((size - crop) / 2)
    return slice(start, start + crop)


def describe_crop(crop: int) -> str:
    """Describe that a network takes the central part of a frame, for the fingerprint of a store."""
    return f"central {crop} x {crop}"


def seen_part(frames: NDArray[np.uint8], preprocessing: str) -> NDArray[np.uint8]:
    """Return the part of frames that a network takes, given the description of its preprocessing.

    Args:
        frames: frames, [T, H, W, 3].
        preprocessing: description, with that of `describe_crop` if the network takes a part only.
    """
    match = _CROP.search(preprocessing)
    if match is None:
        return frames
    part = central_part(frames.shape[1], int(match[1]))
    return frames[:, part, part]


def describe_output(features: str) -> str:
    """Describe how the last grid becomes features, for the fingerprint of a store."""
    return "mean over the last grid" if features == "pooled" else "the last grid, row by row"
