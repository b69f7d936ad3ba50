"""A file becomes frames: the only module that knows decord and Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import decord
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.corpus import Item
from pipeline.sampling import Sampling, select_frames

decord.logging.set_level(decord.logging.QUIET)

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# A square of 224² needs no more; what is larger than this is a mistake or a bomb.
MAX_IMAGE_PIXELS = 100_000_000

# FFmpeg takes what begins so for a list of other files or addresses, whatever its name.
_PLAYLISTS = (b"ffconcat", b"#EXTM3U")

# How a picture becomes the network's square, as it stands in a store's fingerprint: the whole
# picture, not its middle, because captions speak of what is at the edges.
RESIZE = "whole picture to a square; images: Pillow bicubic, upright; video: decord bicubic"


class DecodeError(Exception):
    """An item that can't be decoded; it ends in quarantine.

    Attributes:
        error: the class of failure: missing, refused, empty, unreadable, no_video or segment.
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
        times_s: when each was shown, in seconds from the file's beginning, float64, [T]; a time
            equal to the one before it is a repeated frame. An image has one frame at 0.
    """

    pixels: NDArray[np.uint8]
    times_s: NDArray[np.float64]


def decode(path: Path, item: Item, sampling: Sampling, size: int) -> Frames:
    """Read the frames of an item that a rule asks for, scaled to `size` x `size`.

    Args:
        path: the item's file.
        item: says whether it is a video or an image, and which segment.
        sampling: which frames of a video; an image always has one.
        size: height and width wanted, in pixels.

    Raises:
        DecodeError: it can't be done.
    """
    if item.kind == "image":
        return _decode_image(path, size)
    return _decode_video(path, item, sampling, size)


def _decode_image(path: Path, size: int) -> Frames:
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_IMAGE_PIXELS:
                raise DecodeError(
                    "refused",
                    f"{path}: {image.width} x {image.height} pixels, "
                    f"allowed: {MAX_IMAGE_PIXELS} in all",
                )
            image.draft("RGB", (size, size))
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I;16"):
                # Pillow would cut 16 bits off at 255 instead of scaling them.
                upright = upright.point(lambda value: value / 256).convert("L")
            upright = upright.convert("RGB")
            if upright.size != (size, size):
                upright = upright.resize((size, size), Image.Resampling.BICUBIC)
            pixels = np.asarray(upright, dtype=np.uint8)[None]
    except Image.DecompressionBombError as error:
        raise DecodeError("refused", f"{path}: {_one_line(error)}") from error
    # Pillow calls some damaged PNG files a SyntaxError.
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise DecodeError("unreadable", f"{path}: {_one_line(error)}") from error
    return Frames(pixels, np.zeros(1))


def _decode_video(path: Path, item: Item, sampling: Sampling, size: int) -> Frames:
    with path.open("rb") as file:
        if file.read(len(max(_PLAYLISTS, key=len))).startswith(_PLAYLISTS):
            raise DecodeError("refused", f"{path}: a playlist, which would open other files")
    try:
        # One thread: Ray decodes many files at once.
        reader = decord.VideoReader(
            str(path), ctx=decord.cpu(0), width=size, height=size, num_threads=1
        )
        if not len(reader):
            raise DecodeError("no_video", f"{path}: has no frames")
        spans_s = reader.get_frame_timestamp(np.arange(len(reader)))
        starts_s = np.ascontiguousarray(spans_s[:, 0], dtype=np.float64)
        indices = select_frames(
            starts_s, float(spans_s[-1, 1]), sampling, (item.start_s, item.end_s)
        )
        # A repeated frame is decoded once.
        unique, back = np.unique(indices, return_inverse=True)
        pixels = reader.get_batch(unique).asnumpy()[back]
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        kind = "no_video" if "video stream" in str(error).lower() else "unreadable"
        raise DecodeError(kind, f"{path}: {_one_line(error)}") from error
    except ValueError as error:
        raise DecodeError("segment", f"{path}: {_one_line(error)}") from error
    return Frames(pixels, starts_s[indices])


def _one_line(error: Exception) -> str:
    """The first line of what a decoder says; the rest is its stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
