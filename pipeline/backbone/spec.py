"""The words that every backbone shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

# Frames a call: enough to fill the cores; the features do not depend on it.
BATCH = 32

FEATURES = ("pooled", "grid")

Precision = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What determines the features that a backbone gives.

    Attributes:
        name: as the command line takes it, but a file without its folder.
        features: "pooled" or "grid".
        size: height and width of its input, in pixels.
        shape: of one frame's features: (D,) pooled, (cells, D) for a grid, row by row.
        weights_sha256: of the file its weights come from, or of the weights themselves.
        preprocessing: how uint8 pixels become its input, and its output features.
    """

    name: str
    features: str
    size: int
    shape: tuple[int, ...]
    weights_sha256: str
    preprocessing: str


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A backbone on its way to the workers.

    Attributes:
        precision: what it computes in.
        data: for float32 an ONNX file, otherwise the weights in the safetensors format.
    """

    precision: Precision
    data: bytes


class Backbone(Protocol):
    """Frames uint8 [N, H, W, 3] -> features float32 [N, *shape]; N may be 0."""

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]: ...


def describe_output(features: str) -> str:
    """How the last grid becomes features, as it stands in a store's fingerprint."""
    return "mean over the last grid" if features == "pooled" else "the last grid, row by row"
