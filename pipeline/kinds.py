"""Whether a file is a video or an image: by its ending, and an animation by its first bytes."""

from __future__ import annotations

from pathlib import Path

from pipeline.corpus import Kind
from pipeline.endings import ANIMATED_SUFFIXES, IMAGE_SUFFIXES, KNOWN_SUFFIXES, VIDEO_SUFFIXES
from pipeline.errors import FileError
from pipeline.pictures import HEAD_BYTES, is_animated
from pipeline.walk import has_suffix


def kind_of(name: Path, path: Path | None = None, animations_as_images: bool = False) -> Kind:
    """Whether a file is a video or an image.

    Args:
        name: whose ending says it.
        path: where the file is, if not at `name`.
        animations_as_images: whether an animated GIF, WebP, PNG or AVIF is an image.

    Raises:
        FileError: it is neither.
    """
    if has_suffix(name.name, VIDEO_SUFFIXES):
        return "video"
    if not has_suffix(name.name, IMAGE_SUFFIXES):
        known = " ".join(sorted(KNOWN_SUFFIXES))
        raise FileError("unreadable", f"{name}: ending {name.suffix!r}, allowed: {known}")
    if animations_as_images or not has_suffix(name.name, ANIMATED_SUFFIXES):
        return "image"
    return "video" if _is_animated(path or name) else "image"


def _is_animated(path: Path) -> bool:
    try:
        # What is no regular file is never opened.
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            # A GIF says it nowhere; its pictures have to be counted.
            return is_animated(head + file.read() if head.startswith(b"GIF8") else head)
    except OSError:
        # Whoever decodes it will say why it can't be read.
        return False
