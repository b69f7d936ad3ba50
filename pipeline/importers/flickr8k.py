"""Import Flickr8k (Hodosh, Young & Hockenmaier 2013): photographs with five captions each.

SOURCE/
  Images/*.jpg                             or Flicker8k_Dataset/, as in the published archive
  Flickr8k.token.txt                       <file>#<n> TAB <caption>
  Flickr_8k.{train,dev,test}Images.txt     one file name per line

If Karpathy's dataset_flickr8k.json is passed after the folder, captions and splits are read from
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import CaptionedItem, write_captioned
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.flickr import read_list, read_tokens
from intertitle.pipeline.importers.karpathy import read_karpathy
from intertitle.pipeline.importers.parsing import folder_of
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.storage.paths import AnyPath

# Name of the split by the published name of its list.
SPLITS = {"train": "train", "dev": "val", "test": "test"}


def import_flickr8k(source: Path, out: AnyPath, karpathy: Sequence[Path] = ()) -> ImportReport:
    """Write a corpus of the splits whose lists exist.

    A photograph that a list names but the folder lacks is left out and reported as missing.

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
    listed: list[CaptionedItem] = []
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


IMPORTER = Importer(
    "flickr8k",
    import_flickr8k,
    Sources.FOLDER_AND_FILES,
    "FOLDER [JSON]",
    "captions and lists as published; or Karpathy's JSON",
    sentences=True,
)
