"""An animated GIF, WebP, PNG or AVIF becomes frames, chosen by time as those of a video."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images import PartialError, open_animation, to_square
from pipeline.metadata import orientation
from pipeline.pictures import durations_s, is_cut, picture_format, shown_s

# From when each picture begins to be shown, [N], and when the last one ceases, in seconds, to the
# indices of those that are wanted, ascending, [T].
Choose = Callable[[NDArray[np.float64], float], NDArray[np.int64]]


def decode_animation(
    data: bytes, choose: Choose, size: int, max_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], str | None]:
    """Decode the pictures that are shown at some times; a file without motion has one.

    Args:
        data: the file.
        choose: chooses pictures by their times.
        size: height and width wanted, in pixels.
        max_pixels: of a picture in the file, width times height.

    Returns:
        The frames, uint8 [T, size, size, 3]; when each begins to be shown, in seconds, [T]; and why
        only a part of the file could be read, or None.

    Raises:
        ProbeError: nothing can be decoded, or `choose` raised it.
    """
    with open_animation(data, max_pixels) as image:
        durations = _durations_s(image, data)
    degraded = "cut short: its end is missing" if is_cut(data) else None
    while True:
        ends = np.cumsum(durations)
        starts = np.concatenate(([0.0], ends[:-1]))
        indices = choose(starts, float(ends[-1]))
        unique, back = np.unique(indices, return_inverse=True)
        try:
            with open_animation(data, max_pixels) as image:
                pixels = _read(image, data, unique.tolist(), size)
            return pixels[back], starts[indices], degraded
        except PartialError as error:
            degraded = f"cut short: {error.place} of {len(durations)} pictures can be read"
            durations = durations[: error.place]


def _durations_s(image: Image.Image, data: bytes) -> list[float]:
    """How long each picture is shown, in seconds; at least one picture."""
    first, num_pictures = _first(image), getattr(image, "n_frames", 1)
    if picture_format(data) != "AVIF":
        return durations_s(data)[: num_pictures - first] or [shown_s(0)]
    durations = []
    for place in range(num_pictures):
        # Only the decoder knows.
        image.seek(place)
        image.load()
        durations.append(shown_s(image.info.get("duration", 0) / 1000))
    return durations


def _read(image: Image.Image, data: bytes, wanted: list[int], size: int) -> NDArray[np.uint8]:
    """Decode pictures, ascending; those between them are what they are painted on.

    Raises:
        PartialError: one of them but the first can't be decoded.
    """
    format = picture_format(data)
    assert format is not None
    turn, first = orientation(data, format), _first(image)
    pixels = np.empty((len(wanted), size, size, 3), np.uint8)
    for at, place in enumerate(wanted):
        for painted in range(wanted[at - 1] + 1 if at else 0, place + 1):
            try:
                image.seek(first + painted)
                image.load()
            except MemoryError:
                raise
            except Exception as error:
                if painted == 0:
                    raise
                raise PartialError(painted) from error
        pixels[at] = to_square(image, turn, size)
    return pixels


def _first(image: Image.Image) -> int:
    """The place of the first picture of the animation: a PNG may have one that is no part of it."""
    return int(getattr(image, "default_image", False))
