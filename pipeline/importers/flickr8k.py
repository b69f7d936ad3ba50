"""Flickr8k as published (Hodosh, Young & Hockenmaier 2013): photographs with five captions each.

SOURCE/
  Images/*.jpg                             or Flicker8k_Dataset/, as in the published archive
  Flickr8k.token.txt                       <file>#<n> TAB <caption>
  Flickr_8k.{train,dev,test}Images.txt     a file name a line

With Karpathy's dataset_flickr8k.json named after the folder, captions and splits are of that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.importers.captioned import Captioned, write_captioned
from pipeline.importers.flickr import read_list, read_tokens
from pipeline.importers.karpathy import read_karpathy
from pipeline.importers.reading import folder_of
from pipeline.importers.report import ImportReport
from pipeline.location import AnyPath

# The published name of each list, and the split's name here.
SPLITS = {"train": "train", "dev": "val", "test": "test"}


def import_flickr8k(source: Path, out: AnyPath, karpathy: Sequence[Path] = ()) -> ImportReport:
    """Make a corpus of the splits whose lists are there.

    A photograph that a list names and the folder lacks is reported as missing and left out.

    Raises:
        UserError: the captions or all the lists are missing, a line can't be read, or a listed
            photograph has no caption.
    """
    folders = [folder_of(source) / "Images", source / "Flicker8k_Dataset", source]
    notes: list[str] = []
    if karpathy:
        photographs = read_karpathy(karpathy, folders, notes)
        return write_captioned(source, out, photographs, notes)
    captions = read_tokens(source / "Flickr8k.token.txt")
    listed: list[Captioned] = []
    for published, split in SPLITS.items():
        names = source / f"Flickr_8k.{published}Images.txt"
        if names.is_file():
            listed += read_list(names, split, captions, folders)
        else:
            notes.append(f"{split} left out: {names.name} is absent")
    if not listed:
        lists = ", ".join(f"Flickr_8k.{published}Images.txt" for published in SPLITS)
        raise UserError(f"{source}: no photographs; needs Images/ and at least one of {lists}")
    return write_captioned(source, out, listed, notes)
