"""Read Karpathy's splits and captions of COCO, Flickr8k and Flickr30k (Karpathy & Fei-Fei 2015).

dataset_coco.json, dataset_flickr8k.json, dataset_flickr30k.json
  {"images": [{"filename", "filepath" (COCO only), "imgid", "split", "sentences": [{"raw", ...}],
               ...}],
   "dataset": "coco"}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import Caption, CaptionedItem, image_item
from intertitle.pipeline.importers.parsing import (
    JsonRecord,
    by_id,
    find_file,
    format_value,
    read_json,
)

# restval is the part of COCO's val2014 that is in neither Karpathy's val nor his test split; the
# papers train on it.
SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def read_karpathy(
    files: Iterable[Path], folders: Sequence[Path], notes: list[str]
) -> Iterator[CaptionedItem]:
    """Read the photographs that files of Karpathy's name.

    Args:
        files: JSON files of Karpathy's.
        folders: folders that are searched for the photographs.
        notes: list that messages for the import report are appended to.

    Raises:
        UserError: a file can't be read, a field is missing or invalid, an id occurs twice, or a
            split is unknown.
    """
    for file in files:
        yield from read_karpathy_record(read_json(file), folders, notes)


def read_karpathy_record(
    data: JsonRecord, folders: Sequence[Path], notes: list[str]
) -> Iterator[CaptionedItem]:
    """Read the photographs of a file that is already parsed; see `read_karpathy`.

    Raises:
        UserError: a field is missing or invalid, an id occurs twice, or a split is unknown.
    """
    images = by_id(data.records("images"), "imgid", int).values()
    num_restval = sum(image.values.get("split") == "restval" for image in images)
    if num_restval:
        notes.append(f"train: takes in the {num_restval} photographs of restval, as is usual")
    for image in images:
        split = image.get("split", str)
        if split not in SPLITS:
            where = image.at("split")
            raise UserError(f"{where}: {format_value(split)}, allowed: {', '.join(SPLITS)}")
        name, where = image.get("filename", str), image.at("filename")
        path = find_file(folders, name, where)
        if path is None and "filepath" in image.values:
            path = find_file(folders, f"{image.get('filepath', str)}/{name}", where)
        captions = [Caption(s.get("raw", str), s.at("raw")) for s in image.records("sentences")]
        yield CaptionedItem(name, image_item(name, path), SPLITS[split], captions, image.where)
