"""Decoding of an item's file to frames.

`video.clip_reader` decodes videos, `images.stills` still images, and `images.animation` animations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.images.animation import decode_animation
from intertitle.pipeline.decoding.images.formats import (
    ANIMATION_FORMATS,
    HEAD_BYTES,
    picture_format,
)
from intertitle.pipeline.decoding.images.stills import decode_still
from intertitle.pipeline.decoding.limits import MAX_PIXELS
from intertitle.pipeline.decoding.sampling import Sampling, select_frames
from intertitle.pipeline.decoding.video.clip_reader import MissingPictureError, read_clip
from intertitle.pipeline.decoding.video.decode_plan import plan_decoding
from intertitle.pipeline.decoding.video.probe import Track, probe, verify
from intertitle.pipeline.storage.faults import is_machine_fault

# Maximum size of all frames of one item.
_MAX_BYTES = 2 << 30

# Method that scales a picture to the square input of the backbone, as recorded in a store's
# fingerprint. The whole picture is scaled rather than a centre crop, because captions also describe
# what is at the edges.
RESIZE = (
    "whole picture to a square; images: Pillow bicubic, upright, on white; "
    "video: decord bicubic, upright"
)


class DecodeError(Exception):
    """Error of an item that cannot be decoded; the item is quarantined.

    Attributes:
        error: class of the failure:
            missing: the file does not exist. empty: the file has no bytes.
            refused: the file is not a regular file, or would open other files.
            too_large: there are more pixels or frames than allowed; detected before decoding.
            unreadable: the format is unknown, or the file is too damaged.
            no_video: the file has only sound, or no frames.
            unavailable: the machine or the network failed, or a decoder is not installed.
            segment: the segment does not overlap with the video.
        message: readable description in one line.
    """

    def __init__(self, error: str, message: str) -> None:
        super().__init__(error, message)
        self.error = error
        self.message = message


@dataclass(frozen=True, slots=True)
class Frames:
    """Decoded frames of one item.

    Attributes:
        pixels: RGB frames, uint8, [T, H, W, 3], or [T * window, H, W, 3] for clips.
        times_s: presentation times in seconds from the video's first frame, float64, [T]; of a
            clip, the mean of its frames'. An image has one frame at 0.
        degraded: reason why only a part of the file could be read, in one line; None if all of it
            was read.
    """

    pixels: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    degraded: str | None = None

    @property
    def repeats(self) -> NDArray[np.bool_]:
        """Mask of the frames that repeat the previous one, because the video has too few; [T]."""
        # No two frames of a video have the same time.
        return np.asarray(np.diff(self.times_s, prepend=-1.0) == 0)


def decode(
    path: Path, item: Item, sampling: Sampling, size: int, max_pixels: int = MAX_PIXELS
) -> Frames:
    """Decode the frames of an item that a rule selects, scaled to `size` x `size`.

    Args:
        path: path of the item's file.
        item: item with its kind and segment. An animation may be of either kind: as an image, only
            its first picture is decoded.
        sampling: rule that selects the frames of a video; an image always has one frame, which a
            clip repeats.
        size: height and width of the result in pixels.
        max_pixels: maximum number of pixels of a picture in the file, width times height.

    Raises:
        DecodeError: the item cannot be decoded. Any other exception is a defect of the program or
            of a library.
    """
    try:
        with path.open("rb") as file:
            if item.kind == "image":
                pixels, degraded = decode_still(file.read(), size, max_pixels)
                return Frames(pixels[None].repeat(sampling.window, 0), np.zeros(1), degraded)
            head = file.read(HEAD_BYTES)
            if picture_format(head) in ANIMATION_FORMATS:
                return _decode_animation(head + file.read(), item, sampling, size, max_pixels)
            file.seek(0)
            track = probe(file, max_pixels)
            try:
                return _decode_video(track, item, sampling, size)
            except MissingPictureError:
                return _decode_video(verify(track), item, sampling, size, strict=False)
    except FileNotFoundError as error:
        raise DecodeError("missing", f"{path}: {error.strerror}") from error
    except ProbeError as error:
        raise DecodeError(error.error, f"{path}: {error.message}") from error
    except (MissingPictureError, av.FFmpegError, OSError) as error:
        fault = "unavailable" if is_machine_fault(error) else "unreadable"
        raise DecodeError(fault, f"{path}: {_one_line(error)}") from error


def _decode_animation(
    data: bytes, item: Item, sampling: Sampling, size: int, max_pixels: int
) -> Frames:
    def choose(starts_s: NDArray[np.float64], end_s: float) -> NDArray[np.int64]:
        return _choose(starts_s, end_s, item, sampling, size)

    pixels, times_s, degraded = decode_animation(data, choose, size, max_pixels)
    return Frames(pixels, _times(times_s, sampling), degraded)


def _choose(
    starts_s: NDArray[np.float64], end_s: float, item: Item, sampling: Sampling, size: int
) -> NDArray[np.int64]:
    """Return the indices of the selected frames, given the start times of all frames."""
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


def _decode_video(
    track: Track, item: Item, sampling: Sampling, size: int, strict: bool = True
) -> Frames:
    starts_s, end_s = track.timeline.starts_s, track.timeline.end_s
    indices = _choose(starts_s, end_s, item, sampling, size)
    # A repeated frame is decoded once.
    unique, positions = np.unique(indices, return_inverse=True)
    pixels = np.empty((len(unique), size, size, 3), np.uint8)
    row = 0
    for clip in plan_decoding(track.video, track.timeline, unique.tolist()):
        read_clip(track.video, clip, pixels[row : row + len(clip.frames)], strict)
        row += len(clip.frames)
    pixels = _turn(pixels, track.matrix)
    if len(unique) < len(indices):
        pixels = pixels[positions]
    times_s = _times(starts_s[indices], sampling)
    return Frames(np.ascontiguousarray(pixels), times_s, track.timeline.degraded)


def _times(frame_times_s: NDArray[np.float64], sampling: Sampling) -> NDArray[np.float64]:
    """Return the time of each clip, [T * window] -> [T]; a clip may be a single frame."""
    times_s: NDArray[np.float64] = frame_times_s.reshape(-1, sampling.window).mean(1)
    return times_s


def _turn(pixels: NDArray[np.uint8], matrix: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Rotate and mirror square frames [T, H, W, 3] as a display matrix specifies."""
    (a, b), (c, d) = matrix.tolist()
    if {abs(a), abs(d)} == {0} and {abs(b), abs(c)} == {1}:
        pixels, a, d = pixels.swapaxes(1, 2), c, b
    return pixels[:, :: -1 if d == -1 else 1, :: -1 if a == -1 else 1]


def _one_line(error: Exception) -> str:
    """Return the first line of a decoder's error message; the rest is its stack trace."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
