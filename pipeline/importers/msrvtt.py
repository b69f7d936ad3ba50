"""Import MSR-VTT as published (Xu et al. 2016): clips with twenty captions each.

SOURCE/, at any depth
  *videodatainfo*.json                     train_val_videodatainfo.json, test_videodatainfo.json
      {"videos": [{"video_id": "video0", "split": "train", "start time", "end time", ...}],
       "sentences": [{"sen_id", "video_id", "caption"}], ...}
  video0.mp4, video1.mp4, ...              in TrainValVideo/, TestVideo/ or any other folder

The start and end times refer to the film that a clip was cut from; each clip is an item as a whole.
JSON files that are passed after the folder are read instead of every *videodatainfo*.json.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import Caption, CaptionedItem, video_item, write_captioned
from intertitle.pipeline.importers.declaration import FOLLOW_LINKS, Importer, Sources
from intertitle.pipeline.importers.parsing import (
    JsonRecord,
    by_id,
    composed,
    folder_of,
    format_value,
    read_json,
    videos_in,
)
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.importers.walk import walk
from intertitle.pipeline.storage.paths import AnyPath

_ANNOTATIONS = "*videodatainfo*.json"

# Name of the split by its published name.
SPLITS = {"train": "train", "validate": "val", "val": "val", "test": "test"}


def import_msrvtt(
    source: Path, out: AnyPath, annotations: Sequence[Path] = (), follow_links: bool = False
) -> ImportReport:
    """Write a corpus of MSR-VTT's clips and captions.

    A file without any sentences, such as the test file of the 2017 challenge, is left out and
    noted. Links to folders, and those that lead out of the folder, are followed only with
    `follow_links`.

    Raises:
        UserError: there are no annotations, they can't be read, or a clip has no caption.
    """
    walked = walk(folder_of(source), follow_links)
    files = annotations or [f.path for f in walked.files if Path(f.name).match(_ANNOTATIONS)]
    if not files:
        raise UserError(f"{source}: has no {_ANNOTATIONS}")
    notes = walked.notes()
    clips = _read(files, videos_in(walked), notes)
    return write_captioned(source, out, clips, notes, walked.left_out())


def _read(
    files: Sequence[Path], clips: Mapping[str, Path], notes: list[str]
) -> Iterator[CaptionedItem]:
    for file in files:
        data = read_json(file)
        captions = _captions(data)
        if not captions:
            notes.append(f"{file.name} left out: it has no sentences")
            continue
        for name, video in by_id(data.records("videos"), "video_id", str).items():
            split = video.get("split", str)
            if split not in SPLITS:
                where = video.at("split")
                raise UserError(f"{where}: {format_value(split)}, allowed: {', '.join(SPLITS)}")
            item = video_item(name, clips.get(composed(name)))
            yield CaptionedItem(name, item, SPLITS[split], captions.get(name, ()), video.where)


def _captions(data: JsonRecord) -> Mapping[str, Sequence[Caption]]:
    videos = {video.get("video_id", str) for video in data.records("videos")}
    captions: defaultdict[str, list[Caption]] = defaultdict(list)
    for sentence in by_id(data.records("sentences"), "sen_id", int).values():
        name = sentence.get("video_id", str)
        if name not in videos:
            raise UserError(f"{sentence.at('video_id')}: {format_value(name)} is not in videos")
        captions[name].append(Caption(sentence.get("caption", str), sentence.at("caption")))
    return captions


IMPORTER = Importer(
    "msrvtt",
    import_msrvtt,
    Sources.FOLDER_AND_FILES,
    "FOLDER [JSON...]",
    "*videodatainfo*.json and clips",
    options=(FOLLOW_LINKS,),
    sentences=True,
)
