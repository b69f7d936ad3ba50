"""What happens in a clip: one or two shapes, each with a pose for every frame.

A scene can be played backwards, exactly: the poses are reversed and the motions renamed. Where the
renamed motions differ, only the order of the frames tells the two scenes apart (`order_only`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

import numpy as np

Motion = Literal["left", "right", "up", "down", "grows", "shrinks", "turns", "still"]
Kind = Literal["left/right", "up/down", "grows/shrinks", "then", "two", "turns", "still", "switch"]
Shape = Literal["circle", "square", "triangle"]
Colour = Literal["red", "green", "blue", "black"]
Size = Literal["small", "large"]

NUM_FRAMES = 24
SIDE = 160
MARGIN = 4.0

BACKWARDS: dict[Motion, Motion] = {
    "left": "right",
    "right": "left",
    "up": "down",
    "down": "up",
    "grows": "shrinks",
    "shrinks": "grows",
    "turns": "turns",
    "still": "still",
}
# The motions that have a direction in time.
DIRECTED: tuple[Motion, ...] = tuple(m for m, back in BACKWARDS.items() if m != back)
_STEP: dict[Motion, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
# The least steps, from a frame to the next, of each motion beside a switch.
MIN_STEPS = 8
# A directed motion and a rest, in either order: none reads the same backwards, and there are few
# enough of them for a small corpus to show each one often.
SEQUENCES: tuple[tuple[Motion, Motion], ...] = tuple(
    pair for directed in DIRECTED for pair in ((directed, "still"), ("still", directed))
)

_RADIUS: dict[Size, tuple[float, float]] = {"small": (16.0, 19.0), "large": (28.0, 32.0)}

_Box = tuple[float, float, float, float]
_WHOLE: _Box = (MARGIN, MARGIN, SIDE - MARGIN, SIDE - MARGIN)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a shape is in one frame.

    Attributes:
        x, y: its centre in pixels, from the upper left corner, y downwards.
        radius: of the circle that the shape fits in at any angle, in pixels.
        angle: in radians, clockwise; 0 is upright.
    """

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, slots=True)
class Actor:
    """One shape and what it does.

    Attributes:
        shape, colour: what it looks like.
        size: "small" or "large", or None where it changes.
        motions: what it does, one after the other, each for an equal part of the clip; of a scene
            with a `switch`, the second from there on.
        poses: one for each of the `NUM_FRAMES` frames.
    """

    shape: Shape
    colour: Colour
    size: Size | None
    motions: tuple[Motion, ...]
    poses: tuple[Pose, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that is to be seen in a clip.

    Attributes:
        kind: the family that the scene was drawn from.
        background: red, green and blue, 0 to 255.
        actors: one or two; of two the large one comes first, also in captions.
        switch: the frame from which on an actor does the second of its two motions; None where
            it does all of them for equal parts of the clip.
    """

    kind: Kind
    background: tuple[int, int, int]
    actors: tuple[Actor, ...]
    switch: int | None = None

    @property
    def motions(self) -> tuple[Motion, ...]:
        """All motions in the order in which captions state them."""
        return tuple(motion for actor in self.actors for motion in actor.motions)

    @property
    def order_only(self) -> bool:
        """Whether the same frames backwards show other motions."""
        return reverse(self).motions != self.motions


def reverse(scene: Scene) -> Scene:
    """The scene that the same frames show when they are played backwards."""
    return replace(
        scene,
        switch=None if scene.switch is None else NUM_FRAMES - 1 - scene.switch,
        actors=tuple(
            replace(
                actor,
                motions=tuple(BACKWARDS[motion] for motion in reversed(actor.motions)),
                poses=actor.poses[::-1],
            )
            for actor in scene.actors
        ),
    )


def motions_by_frame(scene: Scene) -> tuple[Motion, ...]:
    """What happens between each frame and the next, in a scene with a switch.

    So the label of a frame hangs on two frames alone and none is in between: the frame of the
    switch has the new motion. The last frame, which has no next, has its predecessor's.
    """
    assert scene.switch is not None
    before, after = scene.motions
    return (before,) * scene.switch + (after,) * (NUM_FRAMES - scene.switch)


def draw_scene(kind: Kind, rng: np.random.Generator) -> Scene:
    """Draw a scene of a kind; the same generator state gives the same scene."""
    shade = rng.integers(218, 246)
    red, green, blue = (int(shade + tint) for tint in rng.integers(-8, 9, size=3))
    background = (red, green, blue)
    if kind == "two":
        return Scene(kind, background, _draw_two(rng))
    motions = _draw_motions(kind, rng)
    switch = int(rng.integers(MIN_STEPS, NUM_FRAMES - MIN_STEPS)) if kind == "switch" else None
    return Scene(kind, background, (_draw_one(motions, switch, rng),), switch)


def _draw_motions(kind: Kind, rng: np.random.Generator) -> tuple[Motion, ...]:
    match kind:
        case "left/right":
            return (_pick(("left", "right"), rng),)
        case "up/down":
            return (_pick(("up", "down"), rng),)
        case "grows/shrinks":
            return (_pick(("grows", "shrinks"), rng),)
        case "then":
            return _pick(SEQUENCES, rng)
        case "turns":
            return ("turns",)
        case "still":
            return ("still",)
        case "switch":
            before = _pick(get_args(Motion), rng)
            return before, _pick([motion for motion in get_args(Motion) if motion != before], rng)
        case "two":
            raise ValueError("two actors have their motions drawn together")


def _draw_one(motions: tuple[Motion, ...], switch: int | None, rng: np.random.Generator) -> Actor:
    size = None if {"grows", "shrinks"} & set(motions) else _pick(get_args(Size), rng)
    shape = _draw_shape(motions, rng)
    colour: Colour = _pick(get_args(Colour), rng)
    return Actor(shape, colour, size, motions, _poses(motions, size, _WHOLE, rng, switch))


def _draw_two(rng: np.random.Generator) -> tuple[Actor, Actor]:
    """A large shape that moves and a small one that rests, each in a lane of its own."""
    motion = _pick(tuple(_STEP), rng)
    low, high, half = MARGIN, SIDE - MARGIN, SIDE / 2
    lanes: tuple[_Box, _Box] = (
        ((low, low, high, half), (low, half, high, high))
        if motion in ("left", "right")
        else ((low, low, half, high), (half, low, high, high))
    )
    if rng.random() < 0.5:
        lanes = lanes[::-1]
    first = _draw_shape((motion,), rng)
    second = _draw_shape(("still",), rng, but=first)
    colours = [get_args(Colour)[i] for i in rng.permutation(len(get_args(Colour)))]
    return (
        Actor(first, colours[0], "large", (motion,), _poses((motion,), "large", lanes[0], rng)),
        Actor(second, colours[1], "small", ("still",), _poses(("still",), "small", lanes[1], rng)),
    )


def _draw_shape(
    motions: tuple[Motion, ...], rng: np.random.Generator, but: Shape | None = None
) -> Shape:
    # Nobody can see a circle turn.
    shapes: tuple[Shape, ...] = get_args(Shape)
    return _pick(
        [s for s in shapes if s != but and not (s == "circle" and "turns" in motions)], rng
    )


def _poses(
    motions: tuple[Motion, ...],
    size: Size | None,
    box: _Box,
    rng: np.random.Generator,
    switch: int | None = None,
) -> tuple[Pose, ...]:
    """Follow each motion at a constant pace, and lay the whole path somewhere inside the box."""
    turn = rng.choice((-1, 1)) * math.radians(rng.uniform(170, 210)) / len(motions)
    small, large = rng.uniform(12, 16), rng.uniform(34, 39)
    if size is not None:
        radius = rng.uniform(*_RADIUS[size])
    else:
        change = next(motion for motion in motions if motion in ("grows", "shrinks"))
        radius = small if change == "grows" else large
    left, top, right, bottom = box
    # Nearly all the way across: a network that averages over the picture sees it best.
    room = max(large, small) if size is None else radius
    share = rng.uniform(0.85, 1.0)
    travel_x, travel_y = share * (right - left - 2 * room), share * (bottom - top - 2 * room)
    keys = [(0.0, 0.0, radius, 0.0)]
    for motion in motions:
        x, y, radius, angle = keys[-1]
        dx, dy = _STEP.get(motion, (0, 0))
        radius = {"grows": large, "shrinks": small}.get(motion, radius)
        angle += turn if motion == "turns" else 0.0
        keys.append((x + dx * travel_x, y + dy * travel_y, radius, angle))
    times = np.linspace(0, 1, NUM_FRAMES)
    key_times = np.linspace(0, 1, len(keys)) if switch is None else times[[0, switch, -1]]
    xs, ys, radii, angles = (
        np.interp(times, key_times, column) for column in zip(*keys, strict=True)
    )
    xs = xs + rng.uniform(left + room - min(xs), right - room - max(xs))
    ys = ys + rng.uniform(top + room - min(ys), bottom - room - max(ys))
    return tuple(
        Pose(float(x), float(y), float(r), float(a))
        for x, y, r, a in zip(xs, ys, radii, angles, strict=True)
    )


def _pick(choices: tuple[_T, ...] | list[_T], rng: np.random.Generator) -> _T:
    return choices[int(rng.integers(len(choices)))]
