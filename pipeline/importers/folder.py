"""Any folder of videos or images: items without examples, to caption what never was captioned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from upath import UPath

from pipeline.corpus import Item, Kind, write_corpus
from pipeline.endings import ANIMATED_SUFFIXES, KNOWN_SUFFIXES, VIDEO_SUFFIXES
from pipeline.errors import UserError
from pipeline.importers.report import ImportReport, report_import
from pipeline.kinds import kind_of
from pipeline.location import AnyPath, is_local, location, normalized
from pipeline.pictures import HEAD_BYTES, is_animated
from pipeline.walk import Walk, has_suffix, is_hidden, walk


def import_folder(
    source: AnyPath,
    out: AnyPath,
    *,
    follow_links: bool = False,
    animations_as_images: bool = False,
) -> ImportReport:
    """Make a corpus of every video and image below a folder.

    A key is the file's path below the folder, which may be an URL. Hidden files, links and files of
    other kinds are counted and left out. An animated GIF, WebP, PNG or AVIF is a video.

    Args:
        source: the folder.
        out: of the corpus.
        follow_links: whether links that lead out of the folder, and those to folders, are followed.
        animations_as_images: whether an animation is an image, its first picture.

    Raises:
        UserError: the source is no folder, or has neither videos nor images.
    """
    folder = location(source)
    if is_local(folder):
        folder = location(normalized(folder))
    if not folder.is_dir():
        raise UserError(f"{source}: not a folder")
    if is_local(folder):
        found = walk(folder, follow_links)
        files = [(file.name, str(file.path)) for file in found.files]
    else:
        names = _objects(folder)
        files = [(name, f"{folder}/{name}") for name in names if not is_hidden(name)]
        found = Walk(hidden=len(names) - len(files))
    known = [(name, uri) for name, uri in files if has_suffix(name)]
    notes = found.notes()
    if others := len(files) - len(known):
        notes.append(f"{others} files of other kinds left out")
    if not known:
        left_out = f" ({', '.join(notes)})" if notes else ""
        endings = " ".join(sorted(KNOWN_SUFFIXES))
        raise UserError(f"{source}: has no videos or images{left_out}; known endings: {endings}")
    kinds = _kinds(folder, known, animations_as_images)
    items = [Item(name, uri, kind) for (name, uri), kind in zip(known, kinds, strict=True)]
    missing = [name for name in found.broken if has_suffix(name)]
    counts = {**found.left_out(), "other_kinds": others}
    return report_import(write_corpus(out, items, []), missing, notes, counts)


def _objects(folder: UPath) -> list[str]:
    """The paths of all objects below an URL, sorted."""
    # One request lists a thousand; looking at each path would be a request each.
    names = folder.fs.find(folder.path)
    return sorted(name.removeprefix(folder.path).lstrip("/") for name in names)


def _kinds(
    folder: UPath, files: Sequence[tuple[str, str]], animations_as_images: bool
) -> list[Kind]:
    if is_local(folder):
        return [kind_of(Path(name), Path(uri), animations_as_images) for name, uri in files]
    kinds: list[Kind] = [
        "video" if has_suffix(name, VIDEO_SUFFIXES) else "image" for name, _ in files
    ]
    if not animations_as_images:
        # The beginnings of those that may be animated, many requests at a time.
        asked = [n for n, (name, _) in enumerate(files) if has_suffix(name, ANIMATED_SUFFIXES)]
        paths = [f"{folder.path}/{files[n][0]}" for n in asked]
        heads = folder.fs.cat_ranges(paths, 0, HEAD_BYTES, on_error="return") if paths else []
        for n, head in zip(asked, heads, strict=True):
            if isinstance(head, bytes) and is_animated(head):
                kinds[n] = "video"
    return kinds
