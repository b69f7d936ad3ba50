"""Karpathy's splits of COCO, Flickr8k and Flickr30k (Karpathy & Fei-Fei 2015), captions included.

dataset_coco.json, dataset_flickr8k.json, dataset_flickr30k.json
  {"images": [{"filename", "filepath" (COCO only), "imgid", "split", "sentences": [{"raw", ...}],
               ...}],
   "dataset": "coco"}
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.importers.captioned import Caption, Captioned, image_item
from pipeline.importers.reading import Record, by_id, find_file, read_json, shown

# What is left of COCO's val2014 beside Karpathy's val and test is trained on in the papers.
SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def read_karpathy(
    files: Iterable[Path], folders: Sequence[Path], notes: list[str]
) -> Iterator[Captioned]:
    """The photographs of such files, looked for in some folders; what to know goes to the notes.

    Raises:
        UserError: a file can't be read, a field is missing or wrong, an id comes twice, or a split
            is unknown.
    """
    for file in files:
        yield from read_karpathy_record(read_json(file), folders, notes)


def read_karpathy_record(
    data: Record, folders: Sequence[Path], notes: list[str]
) -> Iterator[Captioned]:
    """The same, of a file that was read.

    Raises:
        UserError: a field is missing or wrong, an id comes twice, or a split is unknown.
    """
    images = by_id(data.records("images"), "imgid", int).values()
    num_restval = sum(image.values.get("split") == "restval" for image in images)
    if num_restval:
        notes.append(f"train: takes in the {num_restval} photographs of restval, as is usual")
    for image in images:
        split = image.get("split", str)
        if split not in SPLITS:
            where = image.at("split")
            raise UserError(f"{where}: {shown(split)}, allowed: {', '.join(SPLITS)}")
        name, where = image.get("filename", str), image.at("filename")
        path = find_file(folders, name, where)
        if path is None and "filepath" in image.values:
            path = find_file(folders, f"{image.get('filepath', str)}/{name}", where)
        captions = [Caption(s.get("raw", str), s.at("raw")) for s in image.records("sentences")]
        yield Captioned(name, image_item(name, path), SPLITS[split], captions, image.where)
