"""A file becomes frames: the only module that knows decord and Pillow."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import decord
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.clips import Clip, plan_clips
from pipeline.containers import ProbeError
from pipeline.corpus import Item
from pipeline.faults import is_machine_fault
from pipeline.probe import Track, probe, verify
from pipeline.remux import remux
from pipeline.sampling import Sampling, select_frames

decord.logging.set_level(decord.logging.QUIET)

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"})
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

# What Pillow reads by itself: for some other formats it starts other programs.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

# A square of 224² needs no more; what is larger than this is a mistake or a bomb.
MAX_PIXELS = 100_000_000

# Of all frames of one item.
_MAX_BYTES = 2 << 30

# How a picture becomes the network's square, as it stands in a store's fingerprint: the whole
# picture, not its middle, because captions speak of what is at the edges.
RESIZE = (
    "whole picture to a square; images: Pillow bicubic, upright; video: decord bicubic, upright"
)

# Frames taken from decord at once.
_BATCH = 64


# What the decoders raise over damaged files; Pillow calls some PNG files a SyntaxError.
_UNREADABLE = (
    decord.DECORDError,
    UnidentifiedImageError,
    Image.DecompressionBombError,
    OSError,
    ValueError,
    SyntaxError,
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
        item: says whether it is a video or an image, and which segment.
        sampling: which frames of a video; an image always has one.
        size: height and width wanted, in pixels.
        max_pixels: of a picture in the file, width times height.

    Raises:
        DecodeError: it can't be done.
    """
    try:
        if item.kind == "image":
            return _decode_image(path, size, max_pixels)
        with path.open("rb") as file:
            track = probe(file, max_pixels)
            try:
                return _decode_video(track, item, sampling, size)
            except decord.DECORDError:
                return _decode_video(verify(track), item, sampling, size)
    except FileNotFoundError as error:
        raise DecodeError("missing", f"{path}: {error.strerror}") from error
    except ProbeError as error:
        raise DecodeError(error.error, f"{path}: {error.message}") from error
    except _UNREADABLE as error:
        fault = "unavailable" if is_machine_fault(error) else "unreadable"
        raise DecodeError(fault, f"{path}: {_one_line(error)}") from error


def _decode_image(path: Path, size: int, max_pixels: int) -> Frames:
    degraded = None
    with path.open("rb") as file:
        try:
            image: Image.Image = Image.open(file, formats=IMAGE_FORMATS)
        except Image.DecompressionBombError as error:
            raise ProbeError("too_large", _one_line(error)) from error
        if image.width * image.height > max_pixels:
            pixels = f"{image.width} x {image.height} pixels"
            raise ProbeError("too_large", f"{pixels}, allowed: {max_pixels} in all")
        image.draft("RGB", (size, size))
        try:
            image.load()
        except OSError as error:
            if image.format != "JPEG":
                raise
            image, degraded = _part_of_jpeg(file, size), f"cut short: {_one_line(error)}"
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            # Pillow would cut 16 bits off at 255 instead of scaling them.
            upright = upright.point(lambda value: value / 256).convert("L")
        upright = upright.convert("RGB")
        if upright.size != (size, size):
            upright = upright.resize((size, size), Image.Resampling.BICUBIC)
        return Frames(np.asarray(upright, dtype=np.uint8)[None], np.zeros(1), degraded)


def _part_of_jpeg(file: BinaryIO, size: int) -> Image.Image:
    """What is there of a photograph that was cut short; the rest is grey.

    Pillow's own switch for this holds for the whole process. A mark of the end does as well.
    """
    file.seek(0)
    image = Image.open(BytesIO(file.read() + b"\xff\xd9"))
    image.draft("RGB", (size, size))
    if all(low == high for low, high in np.reshape(image.getextrema(), (-1, 2))):
        raise ProbeError("unreadable", "cut short before its first pixels")
    return image


def _decode_video(track: Track, item: Item, sampling: Sampling, size: int) -> Frames:
    starts_s, end_s = track.timeline.starts_s, track.timeline.end_s
    try:
        indices = select_frames(starts_s, end_s, sampling, (item.start_s, item.end_s))
    except ValueError as error:
        raise ProbeError("segment", str(error)) from error
    except OverflowError as error:
        raise ProbeError("too_large", str(error)) from error
    num_bytes = len(indices) * size * size * 3
    if num_bytes > _MAX_BYTES:
        raise ProbeError("too_large", f"{len(indices)} frames: {num_bytes} bytes")
    # A repeated frame is decoded once.
    unique, back = np.unique(indices, return_inverse=True)
    pixels = np.empty((len(unique), size, size, 3), np.uint8)
    at = 0
    for clip in plan_clips(track.video, track.timeline, unique.tolist()):
        with remux(track.video, clip) as source:
            _read_clip(source, clip, pixels[at : at + len(clip.frames)])
        at += len(clip.frames)
    pixels = _turn(pixels, track.matrix)
    if len(unique) < len(indices):
        pixels = pixels[back]
    return Frames(np.ascontiguousarray(pixels), starts_s[indices], track.timeline.degraded)


def _read_clip(source: BytesIO | str, clip: Clip, out: NDArray[np.uint8]) -> None:
    """Decode the wanted pictures of a clip into `out`, uint8 [T, size, size, 3].

    Raises:
        DECORDError: the packets gave fewer pictures than they should.
    """
    size = out.shape[1]
    # decord mistakes the padding at the end of such short rows for pixels: larger, then averaged.
    factor = 64 // math.gcd(64, size) if size < 64 and size % 4 == 0 else 1
    wide = size * factor
    try:
        # One thread: Ray decodes many files at once. A picture that is missing is an error.
        reader = decord.VideoReader(
            source, decord.cpu(0), wide, wide, num_threads=1, fault_tol="0.0000001"
        )
        at = 0
        for batch in _batches(reader, clip):
            if factor > 1:
                tiles = batch.reshape(len(batch), size, factor, size, factor, 3)
                batch = np.rint(tiles.mean((2, 4))).astype(np.uint8)
            out[at : at + len(batch)] = batch
            at += len(batch)
        if clip.by_time and clip.places[-1] < clip.num_pictures - 1:
            # Only if the last picture comes has none before it been lost.
            reader.get_batch([clip.num_pictures - 1])
    except (
        decord.DECORDLimitReachedError,
        AssertionError,
        RuntimeError,
        IndexError,
        StopIteration,
    ) as error:
        raise decord.DECORDError(_one_line(error)) from error


def _batches(reader: decord.VideoReader, clip: Clip) -> Iterator[NDArray[np.uint8]]:
    """The wanted pictures, some [T, H, W, 3] at a time."""
    if clip.by_time:
        for begin in range(0, len(clip.places), _BATCH):
            yield reader.get_batch(clip.places[begin : begin + _BATCH]).asnumpy()
        return
    # To skip pictures decord needs their times.
    wanted = set(clip.places)
    for place in range(clip.places[-1] + 1):
        picture = reader.next()
        if place in wanted:
            yield picture.asnumpy()[None]


def _turn(pixels: NDArray[np.uint8], matrix: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Turn and mirror square pictures [T, H, W, 3] as a display matrix asks."""
    (a, b), (c, d) = matrix.tolist()
    if {abs(a), abs(d)} == {0} and {abs(b), abs(c)} == {1}:
        pixels, a, d = pixels.swapaxes(1, 2), c, b
    return pixels[:, :: -1 if d == -1 else 1, :: -1 if a == -1 else 1]


def _one_line(error: Exception) -> str:
    """The first line of what a decoder says; the rest is its stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
