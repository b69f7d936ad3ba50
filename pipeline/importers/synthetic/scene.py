"""Scenes of rendered clips: one or two shapes, each with a pose for every frame.

A scene can be reversed exactly: the order of the poses is reversed and the motions are renamed. If
the renamed motions differ, the two scenes differ only in the order of their frames (`order_only`).
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
# Motions that look different when they are played backwards.
DIRECTED: tuple[Motion, ...] = tuple(m for m, back in BACKWARDS.items() if m != back)
_STEP: dict[Motion, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
}
# Minimum number of steps, from one frame to the next, of each motion before and after a switch.
MIN_STEPS = 8
# A directed motion and a rest, in either order. None is its own reverse, and there are so few that
# a small corpus contains each of them many times.
SEQUENCES: tuple[tuple[Motion, Motion], ...] = tuple(
    pair for directed in DIRECTED for pair in ((directed, "still"), ("still", directed))
)

_RADIUS: dict[Size, tuple[float, float]] = {"small": (16.0, 19.0), "large": (28.0, 32.0)}

_Box = tuple[float, float, float, float]
_WHOLE: _Box = (MARGIN, MARGIN, SIDE - MARGIN, SIDE - MARGIN)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Pose:
    """Position, size and angle of a shape in one frame.

    Attributes:
        x, y: centre in pixels, from the upper left corner, y downwards.
        radius: radius of the circle around the shape, in pixels.
        angle: clockwise rotation in radians; 0 is upright.
    """

    x: float
    y: float
    radius: float
    angle: float


@dataclass(frozen=True, slots=True)
class Actor:
    """One shape and its motions.

    Attributes:
        shape, colour: appearance of the shape.
        size: "small" or "large", or None if it changes.
        motions: successive motions, each for an equal part of the clip; in a scene with a
            `switch`, the second motion starts there.
        poses: pose in each of the `NUM_FRAMES` frames.
    """

    shape: Shape
    colour: Colour
    size: Size | None
    motions: tuple[Motion, ...]
    poses: tuple[Pose, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a clip shows.

    Attributes:
        kind: family of scenes that the scene was drawn from.
        background: red, green and blue of the background, 0 to 255.
        actors: one or two shapes; of two, the large one is first, in captions too.
        switch: frame at which the actor's second motion starts, or None if each motion takes an
            equal part of the clip.
    """

    kind: Kind
    background: tuple[int, int, int]
    actors: tuple[Actor, ...]
    switch: int | None = None

    @property
    def motions(self) -> tuple[Motion, ...]:
        """Motions of all actors, in the order in which captions state them."""
        return tuple(motion for actor in self.actors for motion in actor.motions)

    @property
    def order_only(self) -> bool:
        """Whether the same frames in reverse order show other motions."""
        return reverse(self).motions != self.motions


def reverse(scene: Scene) -> Scene:
    """Return the scene that the same frames show in reverse order."""
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
    """Return the motion between each frame and the next, in a scene with a switch.

    So a frame's label depends on only two frames and is never ambiguous: the frame of the switch
    has the new motion. The last frame, which has no successor, has the label of the one before it.
    """
    assert scene.switch is not None
    before, after = scene.motions
    return (before,) * scene.switch + (after,) * (NUM_FRAMES - scene.switch)


def draw_scene(kind: Kind, rng: np.random.Generator) -> Scene:
    """Draw a scene of a given kind at random; equal generator states give equal scenes."""
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
    """Draw a large shape that moves and a small one that rests, each in its own half."""
    motion = _pick(tuple(_STEP), rng)
    low, high, half = MARGIN, SIDE - MARGIN, SIDE / 2
    boxes: tuple[_Box, _Box] = (
        ((low, low, high, half), (low, half, high, high))
        if motion in ("left", "right")
        else ((low, low, half, high), (half, low, high, high))
    )
    if rng.random() < 0.5:
        boxes = boxes[::-1]
    first = _draw_shape((motion,), rng)
    second = _draw_shape(("still",), rng, but=first)
    colours = [get_args(Colour)[i] for i in rng.permutation(len(get_args(Colour)))]
    return (
        Actor(first, colours[0], "large", (motion,), _poses((motion,), "large", boxes[0], rng)),
        Actor(second, colours[1], "small", ("still",), _poses(("still",), "small", boxes[1], rng)),
    )


def _draw_shape(
    motions: tuple[Motion, ...], rng: np.random.Generator, but: Shape | None = None
) -> Shape:
    # A turning circle looks still.
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
    """Draw the poses of a shape that follows its motions at constant speed inside a box."""
    turn = rng.choice((-1, 1)) * math.radians(rng.uniform(170, 210)) / len(motions)
    small, large = rng.uniform(12, 16), rng.uniform(34, 39)
    if size is not None:
        radius = rng.uniform(*_RADIUS[size])
    else:
        change = next(motion for motion in motions if motion in ("grows", "shrinks"))
        radius = small if change == "grows" else large
    left, top, right, bottom = box
    # The path spans most of the box, so that it shows in features averaged over the frame.
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
