"""A file becomes frames: `clip_reader` decodes videos, `images` and `animation` pictures."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.animation import decode_animation
from pipeline.clip_reader import MissingPictureError, read_clip
from pipeline.clips import plan_clips
from pipeline.containers import ProbeError
from pipeline.corpus import Item
from pipeline.faults import is_machine_fault
from pipeline.images import decode_still
from pipeline.pictures import ANIMATION_FORMATS, HEAD_BYTES, picture_format
from pipeline.probe import Track, probe, verify
from pipeline.sampling import Sampling, select_frames

# A square of 224² needs no more; what is larger than this is a mistake or a bomb.
MAX_PIXELS = 100_000_000

# Of all frames of one item.
_MAX_BYTES = 2 << 30

# How a picture becomes the network's square, as it stands in a store's fingerprint: the whole
# picture, not its middle, because captions speak of what is at the edges.
RESIZE = (
    "whole picture to a square; images: Pillow bicubic, upright, on white; "
    "video: decord bicubic, upright"
)


# What the decoders raise over damaged files.
_UNREADABLE = (
    MissingPictureError,
    av.FFmpegError,
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    OverflowError,
    struct.error,
    zlib.error,
)


class DecodeError(Exception):
    """An item that can't be decoded; it ends in quarantine.

    Attributes:
        error: the class of failure.
            missing: no such file. empty: no bytes.
            refused: no regular file, or one that would open others.
            too_large: more pixels, or more frames, than allowed; found before decoding.
            unreadable: no known format, or too damaged.
            no_video: sound alone, or no frames.
            unavailable: the machine's fault or the network's.
            segment: no part of the video.
        message: one line for a person.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(error, message)
        self.error = error
        self.message = message


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames of one item.

    Attributes:
        pixels: RGB, uint8, [T, H, W, 3].
        times_s: when each was shown, in seconds from the video's first frame, float64, [T]. An
            image has one frame at 0.
        degraded: why only a part of the file could be read, in one line; None for a whole file.
    """

    pixels: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    degraded: str | None = None

    @property
    def repeats(self) -> NDArray[np.bool_]:
        """Which frames are the one before again, because there are fewer than asked for; [T]."""
        # No two frames of a video have the same time.
        return np.asarray(np.diff(self.times_s, prepend=-1.0) == 0)


def decode(
    path: Path, item: Item, sampling: Sampling, size: int, max_pixels: int = MAX_PIXELS
) -> Frames:
    """Read the frames of an item that a rule asks for, scaled to `size` x `size`.

    Args:
        path: the item's file.
        item: says whether it is a video or an image, and which segment. An animation is either:
            as an image it is its first picture.
        sampling: which frames of a video; an image always has one.
        size: height and width wanted, in pixels.
        max_pixels: of a picture in the file, width times height.

    Raises:
        DecodeError: it can't be done.
    """
    try:
        with path.open("rb") as file:
            if item.kind == "image":
                pixels, degraded = decode_still(file.read(), size, max_pixels)
                return Frames(pixels[None], np.zeros(1), degraded)
            head = file.read(HEAD_BYTES)
            if picture_format(head) in ANIMATION_FORMATS:
                return _decode_animation(head + file.read(), item, sampling, size, max_pixels)
            file.seek(0)
            track = probe(file, max_pixels)
            try:
                return _decode_video(track, item, sampling, size)
            except MissingPictureError:
                return _decode_video(verify(track), item, sampling, size)
    except FileNotFoundError as error:
        raise DecodeError("missing", f"{path}: {error.strerror}") from error
    except ProbeError as error:
        raise DecodeError(error.error, f"{path}: {error.message}") from error
    except _UNREADABLE as error:
        fault = "unavailable" if is_machine_fault(error) else "unreadable"
        raise DecodeError(fault, f"{path}: {_one_line(error)}") from error


def _decode_animation(
    data: bytes, item: Item, sampling: Sampling, size: int, max_pixels: int
) -> Frames:
    def choose(starts_s: NDArray[np.float64], end_s: float) -> NDArray[np.int64]:
        return _choose(starts_s, end_s, item, sampling, size)

    pixels, times_s, degraded = decode_animation(data, choose, size, max_pixels)
    return Frames(pixels, times_s, degraded)


def _choose(
    starts_s: NDArray[np.float64], end_s: float, item: Item, sampling: Sampling, size: int
) -> NDArray[np.int64]:
    """Which frames are wanted of those that begin to be shown at some times."""
    try:
        indices = select_frames(starts_s, end_s, sampling, (item.start_s, item.end_s))
    except ValueError as error:
        raise ProbeError("segment", str(error)) from error
    except OverflowError as error:
        raise ProbeError("too_large", str(error)) from error
    num_bytes = len(indices) * size * size * 3
    if num_bytes > _MAX_BYTES:
        raise ProbeError("too_large", f"{len(indices)} frames: {num_bytes} bytes")
    return indices


def _decode_video(track: Track, item: Item, sampling: Sampling, size: int) -> Frames:
    starts_s, end_s = track.timeline.starts_s, track.timeline.end_s
    indices = _choose(starts_s, end_s, item, sampling, size)
    # A repeated frame is decoded once.
    unique, back = np.unique(indices, return_inverse=True)
    pixels = np.empty((len(unique), size, size, 3), np.uint8)
    at = 0
    for clip in plan_clips(track.video, track.timeline, unique.tolist()):
        read_clip(track.video, clip, pixels[at : at + len(clip.frames)])
        at += len(clip.frames)
    pixels = _turn(pixels, track.matrix)
    if len(unique) < len(indices):
        pixels = pixels[back]
    return Frames(np.ascontiguousarray(pixels), starts_s[indices], track.timeline.degraded)


def _turn(pixels: NDArray[np.uint8], matrix: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Turn and mirror square pictures [T, H, W, 3] as a display matrix asks."""
    (a, b), (c, d) = matrix.tolist()
    if {abs(a), abs(d)} == {0} and {abs(b), abs(c)} == {1}:
        pixels, a, d = pixels.swapaxes(1, 2), c, b
    return pixels[:, :: -1 if d == -1 else 1, :: -1 if a == -1 else 1]


def _one_line(error: Exception) -> str:
    """The first line of what a decoder says; the rest is its stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
