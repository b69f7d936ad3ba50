"""Descriptors of pictures and sampled frames that survive re-encoding, scaling and small crops.

A descriptor holds the lowest frequencies of a picture's brightness (the coefficients of a discrete
cosine transform, as in the perceptual hash pHash), divided by the amplitude that they have in
natural images. Unrelated pictures are therefore almost orthogonal, and the cosine of two
descriptors is close to 1 only for the same picture.

A cropped picture differs from its original, but not from a part of its original. So a picture is
also compared by the descriptors of its parts: `CROPS` without up to 5 % of a side.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

# Height and width of decoded frames, and of the thumbnails that descriptors are computed from.
DECODED_SIZE, SIZE = 192, 32
# Number of frequencies of each axis, with frequency 0.
_FREQUENCIES = 9
DIM = _FREQUENCIES**2 - 1
# Standard deviation of the brightness, of 255, below which a picture is called blank.
_BLANK = 2.0

_WHOLE = (0.0, 1.0)
_CUTS = ((0.05, 1.0), (0.0, 0.95))
# Parts of a picture as intervals of its height and its width; the first is the whole.
CROPS = (
    (_WHOLE, _WHOLE),
    *((cut, _WHOLE) for cut in _CUTS),
    *((_WHOLE, cut) for cut in _CUTS),
    *product(_CUTS, _CUTS),
    ((0.025, 0.975), (0.025, 0.975)),
    ((0.05, 0.95), (0.05, 0.95)),
)


def thumbnails(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the brightness of frames at a small size.

    Args:
        frames: frames in RGB, uint8, [T, DECODED_SIZE, DECODED_SIZE, 3].

    Returns:
        Thumbnails, uint8, [T, SIZE, SIZE].
    """
    brightness = frames @ np.array([0.299, 0.587, 0.114], np.float32)
    step = DECODED_SIZE // SIZE
    small = brightness.reshape(-1, SIZE, step, SIZE, step).mean((2, 4))
    pictures: NDArray[np.uint8] = np.rint(small).astype(np.uint8)
    return pictures


def is_blank(pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pictures have no structure that could be compared, bool, [N].

    Args:
        pictures: thumbnails of the frames of each picture or video, uint8, [N, T, SIZE, SIZE].
    """
    return np.asarray(pictures.std((2, 3)).max(1) < _BLANK)


def descriptors(pictures: NDArray[np.uint8], crop: int = 0) -> NDArray[np.float32]:
    """Compute descriptors of pictures, or of parts of them.

    Args:
        pictures: thumbnails of the frames of each picture or video, uint8, [N, T, SIZE, SIZE].
        crop: index of the part in CROPS.

    Returns:
        Vectors of length 1, float32, [N, T * DIM].
    """
    rows, columns = (_transform(interval) for interval in CROPS[crop])
    spectrum = rows @ pictures.astype(np.float32) @ columns.T
    frequency = np.arange(_FREQUENCIES, dtype=np.float32)
    spectrum *= np.hypot(frequency[:, None], frequency)
    flat = spectrum.reshape(*pictures.shape[:2], -1)[..., 1:]
    # A blank frame of a video counts for nothing instead of being divided by almost 0.
    scale = np.linalg.norm(flat, axis=2, keepdims=True)
    vectors = (flat / np.maximum(scale, _BLANK)).reshape(len(pictures), -1)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-6), np.float32)


def _transform(interval: tuple[float, float]) -> NDArray[np.float32]:
    """Return the matrix that scales an interval to SIZE pixels and transforms it, [F, SIZE]."""
    edges = SIZE * np.linspace(*interval, SIZE + 1)[:, None]
    pixels = np.arange(SIZE)
    shares = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    shares = np.clip(shares, 0, None) / (edges[1:] - edges[:-1])
    angles = np.pi / SIZE * (pixels + 0.5) * np.arange(_FREQUENCIES)[:, None]
    return np.asarray(np.cos(angles) @ shares / SIZE, np.float32)
