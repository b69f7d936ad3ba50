"""Any folder of videos or images: items without examples, to caption what never was captioned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from upath import UPath

from pipeline.corpus import Item, write_corpus
from pipeline.decode import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from pipeline.errors import UserError
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath, is_local, location


def import_folder(source: AnyPath, out: AnyPath) -> ImportReport:
    """Make a corpus of every video and image below a folder.

    A key is the file's path below the folder, which may be an URL. Files of other kinds are counted
    and left out.

    Raises:
        UserError: the source is no folder, or has neither videos nor images.
    """
    folder = location(source).absolute()
    if not folder.is_dir():
        raise UserError(f"{source}: not a folder")
    items: list[Item] = []
    others = 0
    for key in sorted(_files(folder)):
        suffix = PurePosixPath(key).suffix.lower()
        uri = f"{folder}/{key}"
        if suffix in VIDEO_SUFFIXES:
            items.append(Item(key, uri, "video"))
        elif suffix in IMAGE_SUFFIXES:
            items.append(Item(key, uri, "image"))
        else:
            others += 1
    if not items:
        known = " ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
        raise UserError(f"{source}: has no videos or images; known endings: {known}")
    notes = [f"{others} files of other kinds left out"] if others else []
    return report_import(write_corpus(out, items, []), notes=notes)


def _files(folder: UPath) -> Iterable[str]:
    """The paths below a folder of what is no folder."""
    if is_local(folder):
        return (p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())
    # One request lists a thousand; looking at each path would be a request each.
    names = folder.fs.find(folder.path)
    return (name.removeprefix(folder.path).lstrip("/") for name in names)
