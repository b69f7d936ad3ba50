"""Thumbnails of items: frames side by side, small enough for the cell of a table."""

from __future__ import annotations

import io
import sys

import numpy as np
from matplotlib.image import imsave

from intertitle.pipeline.decoding.decode import DecodeError, Frames
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated

_QUALITY = 80
_GAP = 2  # white pixels between frames


def filmstrip(source: ItemFile, num_frames: int, height: int) -> bytes:
    """Draw a film strip of an item's frames.

    Each frame is scaled to a square, like the input of a network, and is not cropped.

    Args:
        source: the item.
        num_frames: number of frames of a video, spread evenly over it. A shorter video has fewer,
            because no frame is repeated, and an image has one.
        height: height of the strip, in pixels.

    Returns:
        The bytes of a JPEG file.

    Raises:
        DecodeError: the item can't be read.
    """
    limits = Limits(max_pixels=sys.maxsize)
    # Decoded at twice the size, because decord can't scale to some small squares, such as 96.
    item, pixels = decode_isolated(source, Uniform(num_frames), 2 * height, limits)
    if item.rejection:
        raise DecodeError(item.rejection.error, item.rejection.message)
    large = pixels[~Frames(pixels, item.times_s).repeats]
    small = large.reshape(len(large), height, 2, height, 2, 3).mean((2, 4)).astype(np.uint8)
    gaps = ((0, 0), (0, 0), (0, _GAP), (0, 0))
    strip = np.pad(small, gaps, constant_values=255).swapaxes(0, 1).reshape(height, -1, 3)
    file = io.BytesIO()
    imsave(file, strip[:, :-_GAP], format="jpeg", pil_kwargs={"quality": _QUALITY})
    return file.getvalue()
