"""MSR-VTT as published (Xu et al. 2016): clips with twenty captions each.

SOURCE/, at any depth
  *videodatainfo*.json                     train_val_videodatainfo.json, test_videodatainfo.json
      {"videos": [{"video_id": "video0", "split": "train", "start time", "end time", ...}],
       "sentences": [{"sen_id", "video_id", "caption"}], ...}
  video0.mp4, video1.mp4, ...              in TrainValVideo/, TestVideo/ or any other folder

The start and end are of the film that a clip was cut from: the clips are whole items. With files
named after the folder, those are read instead of every *videodatainfo*.json.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.importers.captioned import Caption, Captioned, video_item, write_captioned
from pipeline.importers.reading import (
    Record,
    by_id,
    composed,
    folder_of,
    read_json,
    shown,
    videos_in,
)
from pipeline.importers.report import ImportReport
from pipeline.location import AnyPath
from pipeline.walk import walk

_ANNOTATIONS = "*videodatainfo*.json"

# The published name of each split, and its name here.
SPLITS = {"train": "train", "validate": "val", "val": "val", "test": "test"}


def import_msrvtt(
    source: Path, out: AnyPath, annotations: Sequence[Path] = (), follow_links: bool = False
) -> ImportReport:
    """Make a corpus of MSR-VTT's clips and captions.

    A file without any sentence, as the challenge of 2017 has for its test, is left out and noted.
    Links to folders, and those that lead out of the folder, are followed only if asked.

    Raises:
        UserError: there are no annotations, they can't be read, or a clip has no caption.
    """
    found = walk(folder_of(source), follow_links)
    files = annotations or [f.path for f in found.files if Path(f.name).match(_ANNOTATIONS)]
    if not files:
        raise UserError(f"{source}: has no {_ANNOTATIONS}")
    notes = found.notes()
    clips = _read(files, videos_in(found), notes)
    return write_captioned(source, out, clips, notes, found.left_out())


def _read(
    files: Sequence[Path], clips: Mapping[str, Path], notes: list[str]
) -> Iterator[Captioned]:
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
                raise UserError(f"{where}: {shown(split)}, allowed: {', '.join(SPLITS)}")
            item = video_item(name, clips.get(composed(name)))
            yield Captioned(name, item, SPLITS[split], captions.get(name, ()), video.where)


def _captions(data: Record) -> Mapping[str, Sequence[Caption]]:
    videos = {video.get("video_id", str) for video in data.records("videos")}
    captions: defaultdict[str, list[Caption]] = defaultdict(list)
    for sentence in by_id(data.records("sentences"), "sen_id", int).values():
        name = sentence.get("video_id", str)
        if name not in videos:
            raise UserError(f"{sentence.at('video_id')}: {shown(name)} is not in videos")
        captions[name].append(Caption(sentence.get("caption", str), sentence.at("caption")))
    return captions
