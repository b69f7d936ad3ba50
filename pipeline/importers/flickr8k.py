"""Flickr8k as published (Hodosh, Young & Hockenmaier 2013): photographs with five captions each.

SOURCE/
  Images/*.jpg
  Flickr8k.token.txt                       <file>#<n> TAB <caption>
  Flickr_8k.{train,dev,test}Images.txt     a file name a line
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from pipeline.corpus import Example, ImportReport, Item, report_import, write_corpus
from pipeline.errors import UserError

# The published name of each list, and the split's name here.
SPLITS = {"train": "train", "dev": "val", "test": "test"}


def import_flickr8k(source: Path, out: Path) -> ImportReport:
    """Make a corpus of the splits whose lists are there.

    A photograph that a list names and the folder lacks is reported as missing and left out.

    Raises:
        UserError: the captions or all the lists are missing, a line can't be read, or a listed
            photograph has no caption.
    """
    captions = _read_captions(source / "Flickr8k.token.txt")
    items: list[Item] = []
    examples: list[Example] = []
    missing: list[str] = []
    notes: list[str] = []
    for published, split in SPLITS.items():
        names_file = source / f"Flickr_8k.{published}Images.txt"
        if not names_file.is_file():
            notes.append(f"{split} left out: {names_file.name} is absent")
            continue
        for line, name in enumerate(_lines(names_file), start=1):
            if not name:
                continue
            if name not in captions:
                raise UserError(f"{names_file}: line {line}: {name!r} has no caption")
            photograph = source / "Images" / name
            if not photograph.is_file():
                missing.append(name)
                continue
            items.append(Item(name, str(photograph.absolute()), "image"))
            examples.append(Example(name, split, name, None, tuple(captions[name])))
    if not items:
        lists = ", ".join(f"Flickr_8k.{published}Images.txt" for published in SPLITS)
        raise UserError(f"{source}: no photographs; needs Images/ and at least one of {lists}")
    return report_import(write_corpus(out, items, examples), missing, notes)


def _lines(file: Path) -> list[str]:
    """Lines without their ends; a byte-order mark and Windows line ends do no harm."""
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 at byte {error.start}") from error


def _read_captions(file: Path) -> dict[str, list[str]]:
    if not file.is_file():
        raise UserError(f"{file}: missing; the published layout has it beside Images/")
    captions: defaultdict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(_lines(file), start=1):
        if not line:
            continue
        name, tab, caption = line.partition("\t")
        image, hash_mark, _ = name.rpartition("#")
        if not (tab and hash_mark and caption.strip()):
            raise UserError(f"{file}: line {number}: {line!r}, expected <file>#<n> TAB <caption>")
        captions[image].append(caption)
    return captions
