"""Decide whether a file is a video or an image, by its suffix and, for animations, its content."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from intertitle.pipeline.corpus import Kind
from intertitle.pipeline.decoding.endings import (
    ANIMATED_SUFFIXES,
    IMAGE_SUFFIXES,
    KNOWN_SUFFIXES,
    VIDEO_SUFFIXES,
)
from intertitle.pipeline.decoding.images.formats import HEAD_BYTES, is_animated
from intertitle.pipeline.errors import FileError
from intertitle.pipeline.importers.walk import has_suffix


def kind_of(name: Path, path: Path | None = None, animations_as_images: bool = False) -> Kind:
    """Return whether a file is a video or an image.

    Args:
        name: file name, whose suffix is examined.
        path: path of the file, if it is not `name`.
        animations_as_images: whether an animated GIF, WebP, PNG or AVIF is an image.

    Raises:
        FileError: the file is neither.
    """
    if has_suffix(name.name, VIDEO_SUFFIXES):
        return "video"
    if not has_suffix(name.name, IMAGE_SUFFIXES):
        known = " ".join(sorted(KNOWN_SUFFIXES))
        raise FileError("unreadable", f"{name}: ending {name.suffix!r}, allowed: {known}")
    if animations_as_images or not has_suffix(name.name, ANIMATED_SUFFIXES):
        return "image"
    return "video" if _is_animated(path or name) else "image"


def is_animation(file: BinaryIO) -> bool:
    """Return whether a file that is open at its start is an animated image."""
    head = file.read(HEAD_BYTES)
    # A GIF's header does not say whether it is animated: its frames have to be counted.
    return is_animated(head + file.read() if head.startswith(b"GIF8") else head)


def _is_animated(path: Path) -> bool:
    try:
        # Only regular files are opened: opening a pipe, for example, would block.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return is_animation(file)
    except OSError:
        # The decoder reports why the file can't be read.
        return False
