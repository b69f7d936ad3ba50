"""Sampling rules that select frames of a video by their times.

A rule selects T positions. For a network of single frames each is one frame. For a network of clips
each is a clip of `window` frames: spread over the position's span of time, or, of every N-th frame,
those that follow it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Uniform:
    """Rule that divides the time into `num_frames` equal spans and selects the middle of each."""

    num_frames: int
    window: int = 1

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise UserError(f"frames: {self.num_frames}, allowed: 1 or more")

    def __str__(self) -> str:
        return f"uniform:{self.num_frames}{_suffix(self.window)}"


@dataclass(frozen=True, slots=True)
class Rate:
    """Rule that selects the frame in the middle of every span of 1 / `fps` seconds."""

    fps: float
    window: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.fps < float("inf"):
            raise UserError(f"fps: {self.fps}, allowed: more than 0")

    def __str__(self) -> str:
        # All digits are kept, because features of another rate have another fingerprint.
        return f"fps:{float(self.fps)!r}".removesuffix(".0") + _suffix(self.window)


@dataclass(frozen=True, slots=True)
class Every:
    """Rule that selects every `step`-th frame, starting with the first, whatever its time."""

    step: int
    window: int = 1

    def __post_init__(self) -> None:
        if self.step < 1:
            raise UserError(f"every: {self.step}, allowed: 1 or more")

    def __str__(self) -> str:
        return f"every:{self.step}{_suffix(self.window)}"


def _suffix(window: int) -> str:
    return f"x{window}" if window > 1 else ""


Sampling = Uniform | Rate | Every

# A larger number of frames is invalid input: a day of video at ten frames per second has fewer.
MAX_FRAMES = 1_000_000


def parse_sampling(text: str) -> Sampling:
    """Parse a sampling rule such as "uniform:8" or "fps:2.5x16"; the inverse of `str`.

    The number after "x" is that of the frames of a clip.

    Raises:
        UserError: the text is not a sampling rule.
    """
    kind, _, value = text.partition(":")
    value, has_window, frames = value.partition("x")
    try:
        window = int(frames) if has_window else 1
        if window < 1:
            raise ValueError
        if kind == "uniform":
            return Uniform(int(value), window)
        if kind == "fps":
            return Rate(float(value), window)
        if kind == "every":
            return Every(int(value), window)
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
    """Select frames by time, so that videos with a variable frame rate are sampled correctly.

    Args:
        starts_s: start times of the frames in seconds, float64, ascending; [N], N >= 1.
        end_s: end time of the last frame in seconds.
        rule: sampling rule.
        segment: first and last second of the part to sample; None is the video's own limit.

    Returns:
        Indices into `starts_s`; [T * window], ascending in each clip. If the video has fewer frames
        than the rule selects, some are repeated: an index equal to the one before it is a
        repetition.

    Raises:
        ValueError: the segment does not overlap with the video.
        OverflowError: the rule selects more than `MAX_FRAMES` frames.
    """
    first = float(starts_s[0]) if segment[0] is None else max(segment[0], float(starts_s[0]))
    last = end_s if segment[1] is None else min(segment[1], end_s)
    if last < first or (segment != (None, None) and last == first):
        raise ValueError(f"segment {segment} lies outside the video's {starts_s[0]}..{end_s} s")
    if isinstance(rule, Every):
        begin = int(np.searchsorted(starts_s, first, side="right")) - 1
        end = int(np.searchsorted(starts_s, last, side="left"))
        clips = np.arange(begin, max(end, begin + 1), rule.step, dtype=np.int64)
        frames = clips[:, None] + np.arange(rule.window)
        return frames.clip(max=max(end - 1, begin)).reshape(-1)
    requested = rule.num_frames if isinstance(rule, Uniform) else (last - first) * rule.fps
    requested *= rule.window
    if requested > MAX_FRAMES:
        raise OverflowError(f"{rule} is {requested:.0f} frames here, allowed: {MAX_FRAMES}")
    if isinstance(rule, Uniform):
        num_frames = rule.num_frames
        span_s = (last - first) / num_frames
    else:
        # A part shorter than a span is sampled at its own middle.
        span_s = min(1.0 / rule.fps, last - first)
        num_frames = max(1, round((last - first) * rule.fps))
    middles = first + (np.arange(num_frames * rule.window) + 0.5) * (span_s / rule.window)
    return (np.searchsorted(starts_s, middles, side="right") - 1).astype(np.int64)
