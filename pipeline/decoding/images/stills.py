"""Decoding of still images and access to animations with Pillow and simplejpeg.

Only this module chooses the decoders of images.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
    features,
)

from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.images.formats import Format, picture_format
from intertitle.pipeline.decoding.images.metadata import orientation, pixels_only

# Imported here, because a confined decoder process may not read modules later.
try:
    import pillow_heif
except ImportError:
    pillow_heif = None
else:
    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)

# The caller sets the limit.
Image.MAX_IMAGE_PIXELS = None
# Many files are decoded in parallel, each by one thread.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_HEIF_IS_MISSING = "HEIC and HEIF need another package: pip install 'intertitle[heic]'"
_AVIF_IS_MISSING = "this Pillow cannot decode AVIF: pip install 'pillow>=11.3'"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Warnings of libjpeg for files with damaged pixels; its other warnings are about headers.
_JPEG_IS_DAMAGED = ("Corrupt JPEG data", "Premature end of JPEG file")


def decode_still(data: bytes, size: int, max_pixels: int) -> tuple[NDArray[np.uint8], str | None]:
    """Decode a still image, or the first picture of an animation.

    Args:
        data: content of the file.
        size: height and width of the result in pixels.
        max_pixels: maximum number of pixels of the picture in the file, width times height.

    Returns:
        The picture, uint8 [size, size, 3], and the reason why only a part of it could be read, or
        None.

    Raises:
        ProbeError: the image cannot be decoded.
    """
    format = _format_of(data)
    plain, turn = pixels_only(data, format), orientation(data, format)
    with _decoder_errors():
        image = _open(plain, format, max_pixels)
        degraded = None
        if format == "JPEG":
            image, degraded = _load_jpeg(image, data, plain, size)
        else:
            image.load()
        return to_square(image, turn, size), degraded


class PartialError(Exception):
    """Error of an animation's picture that cannot be decoded, after others that could be.

    Attributes:
        place: index of the picture.
    """

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


@contextmanager
def open_animation(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open an animation in a `with` block, and convert decoder errors there to `ProbeError`.

    Raises:
        ProbeError: the animation cannot be decoded.
    """
    format = _format_of(data)
    plain = pixels_only(data, format)
    with _decoder_errors():
        yield _open(plain, format, max_pixels)


def to_square(image: Image.Image, orientation: int, size: int) -> NDArray[np.uint8]:
    """Turn a picture upright, blend it onto white, and scale it to a square without cropping.

    Raises:
        ProbeError: the pixel format cannot be converted to RGB.
    """
    upright = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
    colours = _to_rgb(upright)
    if colours.size != (size, size):
        colours = colours.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(colours, dtype=np.uint8)


@contextmanager
def _decoder_errors() -> Iterator[None]:
    """Convert decoder errors to `ProbeError` and suppress warnings in a `with` block."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ProbeError, PartialError, MemoryError):
        raise
    except Exception as error:
        # Decoders raise exceptions of many classes, such as KeyError and TypeError, for invalid
        # files. The file is in memory, so the machine's disk is not at fault.
        raise ProbeError("unreadable", _described(error)) from error


def _described(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    known = isinstance(error, OSError | ValueError | SyntaxError | EOFError | RuntimeError)
    return first if known and first else f"{type(error).__name__}: {first}"


def _format_of(data: bytes) -> Format:
    format = picture_format(data)
    if format is None:
        raise ProbeError("unreadable", "no image format that is known here")
    if format == "AVIF" and not features.check("avif"):
        raise ProbeError("unavailable", _AVIF_IS_MISSING)
    if format == "HEIF" and pillow_heif is None:
        raise ProbeError("unavailable", _HEIF_IS_MISSING)
    return format


def _open(data: bytes, format: Format, max_pixels: int) -> Image.Image:
    # Image.open would try all formats on a damaged file, and some of them start other programs.
    open_format, _ = Image.OPEN[format]
    image: Image.Image = open_format(BytesIO(data), "")
    if image.width * image.height > max_pixels:
        pixels = f"{image.width} x {image.height} pixels"
        raise ProbeError("too_large", f"{pixels}, allowed: {max_pixels} in all")
    return image


def _load_jpeg(
    image: Image.Image, data: bytes, plain: bytes, size: int
) -> tuple[Image.Image, str | None]:
    """Decode a JPEG at the smallest scale that is not below `size`.

    libjpeg decodes damaged data to some picture and only emits a warning, which Pillow hides.
    simplejpeg uses the same library, gives the same pixels, and raises the warning.

    Returns:
        The picture, and the reason why only a part of it could be read, or None.
    """
    image.draft("RGB", (size, size))
    degraded = None
    # Of CMYK only the warning is used: Pillow converts its pixels to RGB.
    colors = "RGB" if image.mode in ("RGB", "L") else "CMYK"
    try:
        pixels = simplejpeg.decode_jpeg(
            data, colors, min_height=image.height, min_width=image.width
        )
        if colors == "RGB" and pixels.shape[:2] == (image.height, image.width):
            return Image.fromarray(pixels), None
    except ValueError as error:
        message = _described(error)
        if message.startswith(_JPEG_IS_DAMAGED):
            degraded = f"damaged: {message}"
    try:
        image.load()
        return image, degraded
    except OSError as error:
        return _part_of_jpeg(plain, size), f"cut short: {_described(error)}"


def _part_of_jpeg(data: bytes, size: int) -> Image.Image:
    """Decode the available part of a truncated JPEG; the rest is grey.

    Pillow's option for truncated files applies to the whole process, so an end marker is appended
    to the data instead.
    """
    image = JpegImagePlugin.JpegImageFile(BytesIO(data + b"\xff\xd9"))
    image.draft("RGB", (size, size))
    if all(low == high for low, high in np.reshape(image.getextrema(), (-1, 2))):
        raise ProbeError("unreadable", "cut short before its first pixels")
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Convert a picture to 8-bit RGB, with white where it is transparent.

    Raises:
        ProbeError: the pixel format cannot be converted to RGB.
    """
    if image.mode.startswith("I;16"):
        image = _scaled_from_16_bits(image)
    elif image.mode == "F":
        image = _scaled_from_floats(image)
    elif image.mode in ("I", "LAB"):
        pixel_type = "whole numbers of 32 bits" if image.mode == "I" else "L*a*b* colours"
        raise ProbeError(
            "unreadable",
            f"its pixels are {pixel_type}, allowed: 8 or 16 bits, or floats from 0 to 1",
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _scaled_from_16_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit pixels to 8 bits; Pillow would clip them at 255 instead."""
    values = np.asarray(image).astype(np.uint16)
    # A TIFF may have fewer bits.
    bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]
    grey = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _scaled_from_floats(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if not (values >= 0).all() or not (values <= 1).all():
        low, high = np.nanmin(values), np.nanmax(values)
        raise ProbeError(
            "unreadable", f"its pixels are floats from {low:g} to {high:g}, allowed: 0 to 1"
        )
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))
