"""File name extensions of the formats that can be decoded.

All importers, `predict` and all messages use these lists.
"""

from __future__ import annotations

from intertitle.pipeline.decoding.containers import container_format
from intertitle.pipeline.decoding.images.formats import (
    ANIMATION_FORMATS,
    Format,
    picture_format,
)

# Extensions by the demuxer, named as in `decoding.containers`, that reads such a file.
VIDEO_ENDINGS = {
    "mov": (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v"),
    "avi": (".avi", ".divx"),
    "matroska": (".mkv", ".webm", ".mk3d"),
    "asf": (".wmv", ".asf"),
    "flv": (".flv",),
    "ogg": (".ogv", ".ogm"),
    "ivf": (".ivf",),
    "mxf": (".mxf",),
    "mpeg": (".mpg", ".mpeg", ".mpe", ".vob"),
    "mpegvideo": (".m1v", ".m2v"),
    "mpegts": (".ts", ".mts", ".m2ts", ".m2t"),
}

# Extensions by the format, named as in `decoding.images.formats`, of such a file.
IMAGE_ENDINGS: dict[Format, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
}

VIDEO_SUFFIXES = frozenset(ending for endings in VIDEO_ENDINGS.values() for ending in endings)
IMAGE_SUFFIXES = frozenset(ending for endings in IMAGE_ENDINGS.values() for ending in endings)
KNOWN_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES

# Extensions of files that hold a still picture or an animation.
ANIMATED_SUFFIXES = frozenset(
    ending for name in IMAGE_ENDINGS if name in ANIMATION_FORMATS for ending in IMAGE_ENDINGS[name]
)


def ending_for(head: bytes) -> str:
    """Return an extension that fits the content of a file, whatever its name is.

    Args:
        head: first bytes of the file; 400 are enough.

    Raises:
        ProbeError: the file has no format that is known here.
    """
    if (image := picture_format(head)) is not None:
        return IMAGE_ENDINGS[image][0]
    return VIDEO_ENDINGS[container_format(head)][0]
