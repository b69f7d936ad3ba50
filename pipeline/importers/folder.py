"""Any folder of videos or images: items without examples, to caption what never was captioned."""

from __future__ import annotations

from pathlib import Path

from pipeline.corpus import ImportReport, Item, report_import, write_corpus
from pipeline.decode import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from pipeline.errors import UserError


def import_folder(source: Path, out: Path) -> ImportReport:
    """Make a corpus of every video and image below a folder.

    A key is the file's path below the folder. Files of other kinds are counted and left out.

    Raises:
        UserError: the source is no folder, or has neither videos nor images.
    """
    if not source.is_dir():
        raise UserError(f"{source}: not a folder")
    items: list[Item] = []
    others = 0
    for path in sorted(p for p in source.rglob("*") if not p.is_dir()):
        suffix = path.suffix.lower()
        uri, key = str(path.absolute()), path.relative_to(source).as_posix()
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
