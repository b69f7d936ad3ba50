"""Draw the frames of a scene, with edges anti-aliased by signed distances."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from intertitle.pipeline.importers.synthetic.scene import (
    NUM_FRAMES,
    SIDE,
    Actor,
    Colour,
    Pose,
    Scene,
    Shape,
)

RGB: dict[Colour, tuple[int, int, int]] = {
    "red": (212, 32, 39),
    "green": (38, 150, 62),
    "blue": (32, 88, 208),
    "black": (28, 28, 32),
}

_Array = npt.NDArray[np.float64]


def draw(scene: Scene) -> npt.NDArray[np.uint8]:
    """Draw every frame of a scene.

    Returns:
        Frames, RGB, uint8 `[T, H, W, 3]`; T is `NUM_FRAMES`, H and W are `SIDE`.
    """
    frames = np.empty((NUM_FRAMES, SIDE, SIDE, 3), np.uint8)
    frames[:] = _stage(scene.background)
    for actor in scene.actors:
        for frame, pose in zip(frames, actor.poses, strict=True):
            _paint(frame, actor, pose)
    return frames


def _stage(colour: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Return a background `[H, W, 3]` that gets warmer to the right and darker downwards.

    Without this gradient, features that are averaged over the frame would contain almost no
    information on where a shape is.
    """
    across = np.linspace(-1, 1, SIDE)[None, :, None] * np.array([30.0, 0.0, -30.0])
    down = np.linspace(10, -50, SIDE)[:, None, None]
    stage = np.rint(np.array(colour) - 25 + across + down)
    return np.asarray(np.clip(stage, 0, 255), np.uint8)


def _paint(frame: npt.NDArray[np.uint8], actor: Actor, pose: Pose) -> None:
    """Blend a shape into a frame `[H, W, 3]`, in place; only the shape's bounding box changes."""
    rows = _span(pose.y, pose.radius)
    columns = _span(pose.x, pose.radius)
    # The centre of a pixel is half a pixel from its corner.
    y, x = np.ogrid[rows, columns]
    dx, dy = x + 0.5 - pose.x, y + 0.5 - pose.y
    cos, sin = math.cos(pose.angle), math.sin(pose.angle)
    distance = _DISTANCE[actor.shape](dx * cos + dy * sin, dy * cos - dx * sin, pose.radius)
    # Coverage is 1 inside and 0 outside the shape; the edge between them is one pixel wide.
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    patch = frame[rows, columns]
    patch[:] = np.rint(patch + cover * (np.array(RGB[actor.colour]) - patch))


def _span(centre: float, radius: float) -> slice:
    return slice(max(0, math.floor(centre - radius - 1)), min(SIDE, math.ceil(centre + radius + 1)))


# Signed distance functions. Each takes x and y relative to the shape's centre (in pixels, y
# downwards) and the radius of the circle around the shape, and returns the distance to the shape's
# edge in pixels, negative inside.


def _circle(x: _Array, y: _Array, radius: float) -> _Array:
    # A little smaller than the radius, because a circle looks larger than the other shapes.
    return np.hypot(x, y) - 0.9 * radius


def _square(x: _Array, y: _Array, radius: float) -> _Array:
    return np.maximum(np.abs(x), np.abs(y)) - radius / math.sqrt(2)


def _triangle(x: _Array, y: _Array, radius: float) -> _Array:
    slope = math.sqrt(3) / 2 * np.abs(x) - y / 2
    return np.maximum(slope, y) - radius / 2


_DISTANCE: dict[Shape, Callable[[_Array, _Array, float], _Array]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
}
