"""Decoding of animated GIF, WebP, PNG and AVIF files to frames, sampled by time like a video."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from intertitle.pipeline.decoding.images.formats import durations_s, is_cut, picture_format, shown_s
from intertitle.pipeline.decoding.images.metadata import orientation
from intertitle.pipeline.decoding.images.stills import PartialError, open_animation, to_square

# Function that selects pictures: it takes their start times [N] and the end time of the last one,
# in seconds, and returns the indices of the selected pictures, ascending, [T].
Choose = Callable[[NDArray[np.float64], float], NDArray[np.int64]]


def decode_animation(
    data: bytes, choose: Choose, size: int, max_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], str | None]:
    """Decode the selected pictures of an animation; a still image has one picture.

    Args:
        data: content of the file.
        choose: function that selects pictures by their times.
        size: height and width of the result in pixels.
        max_pixels: maximum number of pixels of a picture in the file, width times height.

    Returns:
        The frames, uint8 [T, size, size, 3]; their start times in seconds, float64 [T]; and the
        reason why only a part of the file could be read, or None.

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
        unique, positions = np.unique(indices, return_inverse=True)
        try:
            with open_animation(data, max_pixels) as image:
                pixels = _read(image, data, unique.tolist(), size)
            return pixels[positions], starts[indices], degraded
        except PartialError as error:
            degraded = f"cut short: {error.place} of {len(durations)} pictures can be read"
            durations = durations[: error.place]


def _durations_s(image: Image.Image, data: bytes) -> list[float]:
    """Return the durations of the pictures in seconds, at least one."""
    first, num_pictures = _first(image), getattr(image, "n_frames", 1)
    if picture_format(data) != "AVIF":
        return durations_s(data)[: num_pictures - first] or [shown_s(0)]
    durations = []
    for place in range(num_pictures):
        # Only the decoder knows the durations of an AVIF.
        image.seek(place)
        image.load()
        durations.append(shown_s(image.info.get("duration", 0) / 1000))
    return durations


def _read(image: Image.Image, data: bytes, positions: list[int], size: int) -> NDArray[np.uint8]:
    """Decode the pictures at ascending positions.

    The pictures between them are decoded too, because each picture is painted on the previous one.

    Raises:
        PartialError: a picture after the first cannot be decoded.
    """
    format = picture_format(data)
    assert format is not None
    turn, first = orientation(data, format), _first(image)
    pixels = np.empty((len(positions), size, size, 3), np.uint8)
    for row, place in enumerate(positions):
        for painted in range(positions[row - 1] + 1 if row else 0, place + 1):
            try:
                image.seek(first + painted)
                image.load()
            except MemoryError:
                raise
            except Exception as error:
                if painted == 0:
                    raise
                raise PartialError(painted) from error
        pixels[row] = to_square(image, turn, size)
    return pixels


def _first(image: Image.Image) -> int:
    """Return the index of the animation's first picture: 1 if a PNG has a default image, else 0."""
    return int(getattr(image, "default_image", False))
