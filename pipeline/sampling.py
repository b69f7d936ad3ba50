"""Which frames of a video to look at: pure functions of the frames' times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Uniform:
    """`num_frames` frames, each from the middle of one of as many equal spans of time."""

    num_frames: int

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise UserError(f"frames: {self.num_frames}, allowed: 1 or more")

    def __str__(self) -> str:
        return f"uniform:{self.num_frames}"


@dataclass(frozen=True, slots=True)
class Rate:
    """Frames at a fixed rate, each from the middle of one of the spans of 1 / `fps` seconds."""

    fps: float

    def __post_init__(self) -> None:
        if not 0 < self.fps < float("inf"):
            raise UserError(f"fps: {self.fps}, allowed: more than 0")

    def __str__(self) -> str:
        # Every digit: another rate is another make of features.
        return f"fps:{float(self.fps)!r}".removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Every:
    """Every `step`-th frame, whatever its time, beginning with the first."""

    step: int

    def __post_init__(self) -> None:
        if self.step < 1:
            raise UserError(f"every: {self.step}, allowed: 1 or more")

    def __str__(self) -> str:
        return f"every:{self.step}"


Sampling = Uniform | Rate | Every

# More can only be a mistake: a day at ten frames a second is less.
MAX_FRAMES = 1_000_000


def parse_sampling(text: str) -> Sampling:
    """The inverse of `str` on a sampling rule: "uniform:8", "fps:2.5" or "every:5".

    Raises:
        UserError: it is none of them.
    """
    kind, _, value = text.partition(":")
    try:
        if kind == "uniform":
            return Uniform(int(value))
        if kind == "fps":
            return Rate(float(value))
        if kind == "every":
            return Every(int(value))
    except ValueError:
        pass
    raise UserError(
        f"sampling: {text!r}, allowed: uniform:<frames> or fps:<frames a second> or every:<step>"
    )


def select_frames(
    starts_s: NDArray[np.float64],
    end_s: float,
    rule: Sampling,
    segment: tuple[float | None, float | None] = (None, None),
) -> NDArray[np.int64]:
    """Choose frames by time, so that a variable frame rate is sampled right.

    Args:
        starts_s: when each frame begins to be shown, in seconds, ascending; [N], N >= 1.
        end_s: when the last frame ceases to be shown, in seconds.
        rule: how many frames, or how often.
        segment: (first, last) second of the part wanted; None is the video's own limit.

    Returns:
        Indices into `starts_s`, ascending; [T]. A video with fewer frames than asked for repeats
        some: an index equal to the one before it is a repetition.

    Raises:
        ValueError: the segment has no overlap with the video.
        OverflowError: more than `MAX_FRAMES` frames.
    """
    first = float(starts_s[0]) if segment[0] is None else max(segment[0], float(starts_s[0]))
    last = end_s if segment[1] is None else min(segment[1], end_s)
    if last < first or (segment != (None, None) and last == first):
        raise ValueError(f"segment {segment} lies outside the video's {starts_s[0]}..{end_s} s")
    if isinstance(rule, Every):
        begin = max(int(np.searchsorted(starts_s, first, side="right")) - 1, 0)
        end = int(np.searchsorted(starts_s, last, side="left"))
        return np.arange(begin, max(end, begin + 1), rule.step, dtype=np.int64)
    wanted = rule.num_frames if isinstance(rule, Uniform) else (last - first) * rule.fps
    if wanted > MAX_FRAMES:
        raise OverflowError(f"{rule} is {wanted:.0f} frames here, allowed: {MAX_FRAMES}")
    if isinstance(rule, Uniform):
        num_frames = rule.num_frames
        span_s = (last - first) / num_frames
    else:
        # Of a part shorter than a span, its own middle.
        span_s = min(1.0 / rule.fps, last - first)
        num_frames = max(1, round((last - first) * rule.fps))
    middles = first + (np.arange(num_frames) + 0.5) * span_s
    return (np.searchsorted(starts_s, middles, side="right") - 1).astype(np.int64)
