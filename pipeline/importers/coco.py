"""Import MS COCO captions (Chen et al. 2015) of 2014 or 2017, or in Karpathy's splits.

SOURCE/
  annotations/captions_{train,val}{2014,2017}.json
      {"images": [{"id", "file_name", ...}], "annotations": [{"id", "image_id", "caption"}], ...}
  {train,val}{2014,2017}/*.jpg             or these folders below images/

Annotation files that are passed after the folder are read instead of all those in annotations/:
some of the captions_*.json, or Karpathy's dataset_coco.json.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import Caption, CaptionedItem, image_item, write_captioned
from intertitle.pipeline.importers.declaration import Importer, Sources
from intertitle.pipeline.importers.karpathy import read_karpathy_record
from intertitle.pipeline.importers.parsing import (
    JsonRecord,
    by_id,
    find_file,
    folder_of,
    format_value,
    read_json,
)
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.storage.paths import AnyPath

_CAPTIONS_FILE = re.compile(r"captions_(?P<folder>(?P<split>train|val)(?P<year>\d{4}))\.json")


def import_coco(source: Path, out: AnyPath, annotations: Sequence[Path] = ()) -> ImportReport:
    """Write a corpus of COCO's photographs and captions.

    The key of a photograph is the name of its file with both kinds of annotations, so that they
    can share features. The published splits are used.

    Raises:
        UserError: there are no annotations, they are of two years, they can't be read, or a
            caption names an image that they do not list, or all photographs are missing.
    """
    files = annotations or sorted((folder_of(source) / "annotations").glob("captions_*.json"))
    if not files:
        raise UserError(
            f"{source}: has no annotations/captions_*.json; "
            "Karpathy's splits are named after the folder: SOURCE dataset_coco.json"
        )
    _one_year(files)
    notes: list[str] = []
    return write_captioned(source, out, _read(files, source, notes), notes)


def _one_year(files: Sequence[Path]) -> None:
    matches = [m for file in files if (m := _CAPTIONS_FILE.fullmatch(file.name))]
    years = sorted({match["year"] for match in matches})
    if len(years) > 1:
        raise UserError(
            f"{files[0].parent}: captions of {' and '.join(years)} are of the same photographs, "
            "split otherwise; name those of one year after SOURCE"
        )


def _read(files: Sequence[Path], source: Path, notes: list[str]) -> Iterator[CaptionedItem]:
    for file in files:
        data = read_json(file)
        if "annotations" in data.values:
            yield from _read_captions(data, source)
        else:
            yield from read_karpathy_record(data, [source, source / "images"], notes)


def _read_captions(data: JsonRecord, source: Path) -> Iterator[CaptionedItem]:
    match = _CAPTIONS_FILE.fullmatch(data.file.name)
    if match is None:
        raise UserError(f"{data.file}: expected a name like captions_train2014.json")
    folders = [source / match["folder"], source / "images" / match["folder"]]
    images = by_id(data.records("images"), "id", int)
    captions: defaultdict[int, list[Caption]] = defaultdict(list)
    for annotation in by_id(data.records("annotations"), "id", int).values():
        image_id = annotation.get("image_id", int)
        if image_id not in images:
            raise UserError(
                f"{annotation.at('image_id')}: {format_value(image_id)} is not in images"
            )
        captions[image_id].append(Caption(annotation.get("caption", str), annotation.at("caption")))
    for image_id, image in images.items():
        name = image.get("file_name", str)
        item = image_item(name, find_file(folders, name, image.at("file_name")))
        yield CaptionedItem(name, item, match["split"], captions[image_id], image.where)


IMPORTER = Importer(
    "coco",
    import_coco,
    Sources.FOLDER_AND_FILES,
    "FOLDER [JSON...]",
    "annotations/captions_*.json; or Karpathy's JSON",
    sentences=True,
)
