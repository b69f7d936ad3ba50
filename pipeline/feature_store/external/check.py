"""Check arrays of features and convert them to frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.external.sources import Loaded, Unusable

# Number of arrays that decide which shape is expected.
NUM_SAMPLED = 1000
_LAYOUT = {"pooled": "[D] or [frames, D]", "grid": "[cells, D] or [frames, cells, D]"}


def common_shape(
    arrays: Iterable[tuple[str, Loaded]], features: str, where: str
) -> tuple[int, ...]:
    """Return the commonest shape of one frame's features among some arrays.

    Args:
        arrays: arrays by key.
        features: "pooled" or "grid".
        where: name of the source, for messages.

    Raises:
        UserError: none of the arrays has features of this kind.
    """
    shapes: Counter[tuple[int, ...]] = Counter()
    problem = "it is empty"
    for key, array in arrays:
        frames = to_frames(array, features)
        if isinstance(frames, Unusable):
            problem = f"{key}: {frames.message}"
        else:
            shapes[frames.shape[1:]] += 1
    if not shapes:
        raise UserError(f"{where}: no {features} features in it: {problem}")
    return shapes.most_common(1)[0][0]


def to_frames(
    array: Loaded, features: str, shape: tuple[int, ...] | None = None
) -> NDArray[np.float32] | Unusable:
    """Convert an array to the features of frames, float32 [T, *shape], or say why it is unusable.

    Args:
        array: array as it was read.
        features: "pooled" for [D] or [T, D], "grid" for [cells, D] or [T, cells, D].
        shape: expected shape of one frame's features; None accepts any.
    """
    if isinstance(array, Unusable):
        return array
    if array.dtype.kind not in "fiu":
        return Unusable("type", f"{array.dtype}, allowed: real numbers")
    frames = array[None] if array.ndim == (1 if features == "pooled" else 2) else array
    if frames.ndim != (2 if features == "pooled" else 3):
        return Unusable("shape", f"{_show(array)}, allowed for {features}: {_LAYOUT[features]}")
    if not frames.size:
        return Unusable("empty", f"{_show(array)}: no values")
    if shape is not None and frames.shape[1:] != shape:
        expected = " x ".join(map(str, shape))
        return Unusable("shape", f"{_show(array)}, but most are of {expected}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(frames, np.float32)
    number = int(values.size - np.isfinite(values).sum())
    if number:
        return Unusable("not_finite", f"{number} of {values.size} values are not finite")
    return values


def _show(array: NDArray[Any]) -> str:
    return f"[{', '.join(map(str, array.shape))}]"
