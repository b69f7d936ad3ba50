"""Thumbnails of items: frames side by side, small enough for the cell of a table.

Matplotlib is imported where it draws: a prediction imports this module and draws nothing.
"""

from __future__ import annotations

import io
import sys

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.decoding.decode import DecodeError, Frames
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated

# Maximum number of frames of a strip, and its height in pixels.
NUM_FRAMES, HEIGHT = 4, 96
_QUALITY = 80
_GAP = 2  # white pixels between frames


def filmstrip(source: ItemFile) -> bytes:
    """Draw a film strip of an item's frames: `NUM_FRAMES` of a video, or an image.

    Each frame is scaled to a square, like the input of a network, and is not cropped. A shorter
    video has fewer frames, because none is repeated.

    Returns:
        The bytes of a JPEG file.

    Raises:
        DecodeError: the item can't be read.
    """
    limits = Limits(max_pixels=sys.maxsize)
    # Decoded at twice the size, because decord can't scale to some small squares, such as 96.
    item, pixels = decode_isolated(source, Uniform(NUM_FRAMES), 2 * HEIGHT, limits)
    if item.rejection:
        raise DecodeError(item.rejection.error, item.rejection.message)
    return _draw(pixels[~Frames(pixels, item.times_s).repeats])


def filmstrip_of(frames: NDArray[np.uint8]) -> bytes:
    """Draw a film strip of frames that are already decoded: `NUM_FRAMES` of them, spread evenly.

    Args:
        frames: square frames of an item, uint8, [T, S, S, 3].

    Returns:
        The bytes of a JPEG file.
    """
    num = min(NUM_FRAMES, len(frames))
    middles = ((np.arange(num) + 0.5) * len(frames) / num).astype(int)
    chosen = frames[middles]
    return _draw(chosen[[True, *(chosen[1:] != chosen[:-1]).any((1, 2, 3))]])


def _draw(frames: NDArray[np.uint8]) -> bytes:
    """Scale square frames to `HEIGHT` by averaging, and write them next to each other as a JPEG."""
    from matplotlib.image import imsave

    edges = np.linspace(0, frames.shape[1], HEIGHT + 1)[:, None]
    pixels = np.arange(frames.shape[1])
    # Share of each pixel in each row or column of the result, [HEIGHT, S].
    shares = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    shares = np.clip(shares, 0, None) * HEIGHT / frames.shape[1]
    small = np.rint(np.einsum("hs,tsrc,wr->thwc", shares, frames, shares, optimize=True))
    gaps = ((0, 0), (0, 0), (0, _GAP), (0, 0))
    strip = np.pad(small.astype(np.uint8), gaps, constant_values=255)
    joined = strip.swapaxes(0, 1).reshape(HEIGHT, -1, 3)[:, :-_GAP]
    file = io.BytesIO()
    imsave(file, joined, format="jpeg", pil_kwargs={"quality": _QUALITY})
    return file.getvalue()
