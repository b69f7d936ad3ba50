"""The endings of file names that are taken for videos and images: one list for every importer, for
`predict` and for every message, derived from the formats that can be decoded."""

from __future__ import annotations

from pipeline.pictures import ANIMATION_FORMATS, Format

# By the demuxer of `pipeline.containers` that reads such a file.
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

# By the format of `pipeline.pictures` that such a file has.
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

# Files with these endings hold one picture or several that follow each other in time.
ANIMATED_SUFFIXES = frozenset(
    ending for name in IMAGE_ENDINGS if name in ANIMATION_FORMATS for ending in IMAGE_ENDINGS[name]
)
