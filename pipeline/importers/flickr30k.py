"""Import Flickr30k as published (Young et al. 2014), or as the table published on Kaggle.

SOURCE/
  results_20130124.token                   <file>#<n> TAB <caption>
  flickr30k-images/*.jpg
or
  results.csv                              image_name| comment_number| comment
  flickr30k_images/*.jpg                   both may also be one flickr30k_images/ deeper
and, optionally
  {train,val,test}.txt                     one file name per line, with or without .jpg

The data set was published without splits. Papers use those of Karpathy's dataset_flickr30k.json,
which is passed after the folder. Without it and without lists, all photographs are in train.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import CaptionedItem, image_item, write_captioned
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.flickr import Captions, read_list, read_table, read_tokens
from intertitle.pipeline.importers.karpathy import read_karpathy
from intertitle.pipeline.importers.parsing import find_file, folder_of
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.storage.paths import AnyPath

SPLITS = ("train", "val", "test")


def import_flickr30k(source: Path, out: AnyPath, karpathy: Sequence[Path] = ()) -> ImportReport:
    """Write a corpus of Flickr30k's photographs and captions.

    Raises:
        UserError: there are no captions, a line can't be read, or a listed photograph has none.
    """
    deeper = folder_of(source) / "flickr30k_images"
    folders = [source / "flickr30k-images", deeper, deeper / "flickr30k_images", source]
    notes: list[str] = []
    if karpathy:
        photographs = read_karpathy(karpathy, folders, notes)
        return write_captioned(source, out, photographs, notes)
    captions = _read_captions(source)
    lists = {s: file for s in SPLITS if (file := source / f"{s}.txt").is_file()}
    if lists:
        notes += [f"{s} left out: {s}.txt is absent" for s in SPLITS if s not in lists]
        listed = [p for s, file in lists.items() for p in read_list(file, s, captions, folders)]
        return write_captioned(source, out, listed, notes)
    notes.append("all photographs are in train: no lists are there and no splits were given")
    return write_captioned(source, out, _all(captions, folders), notes)


def _read_captions(source: Path) -> Captions:
    tokens = source / "results_20130124.token"
    if tokens.is_file():
        return read_tokens(tokens)
    for table in (source / "results.csv", source / "flickr30k_images" / "results.csv"):
        if table.is_file():
            return read_table(table)
    raise UserError(f"{source}: has neither {tokens.name} nor results.csv")


def _all(captions: Captions, folders: list[Path]) -> Iterator[CaptionedItem]:
    for name, image_captions in captions.items():
        path = find_file(folders, name, image_captions[0].where)
        yield CaptionedItem(
            name, image_item(name, path), "train", image_captions, image_captions[0].where
        )


IMPORTER = Importer(
    "flickr30k",
    import_flickr30k,
    Sources.FOLDER_AND_FILES,
    "FOLDER [JSON]",
    "results_20130124.token, results.csv; or Karpathy's",
    sentences=True,
)
