"""An item at a glance: some of its frames side by side, small enough to stand in a table."""

from __future__ import annotations

import io
import sys

import numpy as np
from matplotlib.image import imsave

from pipeline.decode import DecodeError, Frames
from pipeline.limits import Limits
from pipeline.sampling import Uniform
from pipeline.sandbox import examine
from pipeline.source import Source

_QUALITY = 80
_GAP = 2  # white pixels between frames


def picture_strip(source: Source, num_frames: int, height: int) -> bytes:
    """A JPEG of an item's frames, each the whole picture as a square, as a network sees it.

    Args:
        source: the item.
        num_frames: of a video, spread evenly over it; what is shorter repeats no frame. An image
            is one.
        height: of the strip, in pixels.

    Raises:
        DecodeError: the item can't be read.
    """
    # decord cannot make some small squares, 96 among them.
    limits = Limits(max_pixels=sys.maxsize)
    item, pixels = examine(source, Uniform(num_frames), 2 * height, limits)
    if item.rejection:
        raise DecodeError(item.rejection.error, item.rejection.message)
    large = pixels[~Frames(pixels, item.times_s).repeats]
    small = large.reshape(len(large), height, 2, height, 2, 3).mean((2, 4)).astype(np.uint8)
    gaps = ((0, 0), (0, 0), (0, _GAP), (0, 0))
    strip = np.pad(small, gaps, constant_values=255).swapaxes(0, 1).reshape(height, -1, 3)
    file = io.BytesIO()
    imsave(file, strip[:, :-_GAP], format="jpeg", pil_kwargs={"quality": _QUALITY})
    return file.getvalue()
