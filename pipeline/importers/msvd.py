"""Import MSVD, also called YouTubeClips or YouTube2Text (Chen & Dolan 2011).

It has short clips with about forty sentences each.

SOURCE/
  AllVideoDescriptions.txt                 <clip> <sentence>; comments begin with #
or
  MSR Video Description Corpus.csv         VideoID,Start,End,WorkerID,Source,AnnotationTime,
  (also named video_corpus.csv)            Language,Description
  youtube_mapping.txt, optional            <clip> vid<n>
  and, at any depth, the clips             <YouTubeID>_<start>_<end>.avi
  or the films they were cut from          <YouTubeID>.<ending>

A clip is named <YouTubeID>_<start>_<end>, with times in seconds. If only its film exists, the item
is that segment of the film.

The English descriptions of the table are used, both "clean" and "unverified" ones, as in
AllVideoDescriptions.txt and in the papers, which have about 80,000 sentences.

The split is that of Venugopalan (2015), by the number in youtube_mapping.txt: 1-1200 train,
1201-1300 val, the rest test. The mapping numbers the clips in the order of their names. So without
the mapping, the sorted names of all 1,970 clips give the same split. If there are fewer clips they
do not, and a note reports it.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import Caption, CaptionedItem, video_item, write_captioned
from intertitle.pipeline.importers.declaration import FOLLOW_LINKS, Importer, Sources
from intertitle.pipeline.importers.parsing import (
    composed,
    folder_of,
    format_value,
    lines,
    videos_in,
)
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.importers.walk import walk
from intertitle.pipeline.storage.paths import AnyPath, normalized

NUM_CLIPS = 1970
LAST_TRAIN, LAST_VAL = 1200, 1300

_CLIP = re.compile(r"(?P<film>.+)_(?P<start>\d+)_(?P<end>\d+)")
_TABLES = ("MSR Video Description Corpus.csv", "video_corpus.csv")
_COLUMNS = ("VideoID", "Start", "End", "Language", "Description")

Captions = Mapping[str, Sequence[Caption]]


def import_msvd(source: Path, out: AnyPath, follow_links: bool = False) -> ImportReport:
    """Write a corpus of MSVD's clips and English sentences; an item's key is the clip's name.

    Links to folders, and those that lead out of the folder, are followed only with `follow_links`.

    Raises:
        UserError: there are no descriptions, a line can't be read, or the mapping names a clip
            that has no description.
    """
    captions = _read_captions(folder_of(source))
    walked = walk(source, follow_links)
    videos = videos_in(walked)
    notes = walked.notes()
    mapping = source / "youtube_mapping.txt"
    if mapping.is_file():
        clips = _by_mapping(mapping, captions, videos, notes)
    else:
        clips = _by_name(captions, videos, notes)
    return write_captioned(source, out, clips, notes, walked.left_out())


def _read_captions(source: Path) -> Captions:
    text = source / "AllVideoDescriptions.txt"
    if text.is_file():
        return _read_text(text)
    for table in (source / name for name in _TABLES):
        if table.is_file():
            return _read_table(table)
    raise UserError(f"{source}: has neither {text.name} nor {' nor '.join(_TABLES)}")


def _read_text(file: Path) -> Captions:
    captions: defaultdict[str, list[Caption]] = defaultdict(list)
    for number, line in lines(file):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, sentence = line.partition(" ")
        where = f"{file}: line {number}"
        if not _CLIP.fullmatch(name):
            raise UserError(
                f"{where}: {format_value(line)}, expected <id>_<start>_<end> <sentence>"
            )
        captions[name].append(Caption(sentence, where))
    return captions


def _read_table(file: Path) -> Captions:
    captions: defaultdict[str, list[Caption]] = defaultdict(list)
    # The csv module would take a carriage return for the end of a row.
    rows = csv.DictReader(line.replace("\r", " ") + "\n" for _, line in lines(file))
    try:
        absent = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if absent:
            raise UserError(f"{file}: line 1: has no column {', '.join(absent)}")
        for row in rows:
            where = f"{file}: line {rows.line_num}"
            film, start, end, language, description = (row[column] for column in _COLUMNS)
            name = f"{film}_{start}_{end}"
            # In a row that is too short, the last columns are None.
            if description is None or not _CLIP.fullmatch(name):
                raise UserError(f"{where}: {format_value(row)}, expected {','.join(_COLUMNS)}, ...")
            if language == "English":
                captions[name].append(Caption(description, where))
    except csv.Error as error:
        # `line_num` does not yet count the line that can't be read.
        raise UserError(f"{file}: line {rows.line_num + 1}: {error}") from error
    return captions


def _by_mapping(
    file: Path, captions: Captions, videos: Mapping[str, Path], notes: list[str]
) -> Iterator[CaptionedItem]:
    numbered: dict[int, tuple[str, str]] = {}
    for line_number, line in lines(file):
        if not line.strip():
            continue
        where = f"{file}: line {line_number}"
        match = re.fullmatch(r"(?P<clip>\S+)\s+vid(?P<number>\d+)\s*", line)
        if match is None or not _CLIP.fullmatch(match["clip"]):
            raise UserError(f"{where}: {format_value(line)}, expected <clip> vid<n>")
        number = int(match["number"])
        if number in numbered:
            raise UserError(f"{where}: vid{number} is taken by {numbered[number][1]}")
        numbered[number] = (match["clip"], where)
    unmapped = captions.keys() - {name for name, _ in numbered.values()}
    if unmapped:
        notes.append(f"{len(unmapped)} described clips left out: {file.name} lacks them")
    for number, (name, where) in sorted(numbered.items()):
        sentences = captions.get(name, ())
        yield CaptionedItem(name, _item(name, videos, where), _split(number), sentences, where)


def _by_name(
    captions: Captions, videos: Mapping[str, Path], notes: list[str]
) -> Iterator[CaptionedItem]:
    number = 0
    for name in sorted(captions):
        where = captions[name][0].where
        item = _item(name, videos, where)
        number += item is not None
        yield CaptionedItem(name, item, _split(number), captions[name], where)
    if number != NUM_CLIPS:
        notes.append(
            f"not the published split: {number} of {NUM_CLIPS} clips are there, "
            "and no youtube_mapping.txt"
        )


def _split(number: int) -> str:
    if number <= LAST_TRAIN:
        return "train"
    return "val" if number <= LAST_VAL else "test"


def _item(name: str, videos: Mapping[str, Path], where: str) -> Item | None:
    """Make an item of the clip's own file or, without one, of its segment of the film."""
    if (clip := videos.get(composed(name))) is not None:
        return video_item(name, clip)
    parts = _CLIP.fullmatch(name)
    film = videos.get(composed(parts["film"])) if parts else None
    if parts is None or film is None:
        return None
    start_s, end_s = float(parts["start"]), float(parts["end"])
    if end_s <= start_s:
        raise UserError(f"{where}: {name!r} ends before it starts")
    return Item(name, str(normalized(film)), "video", start_s, end_s)


IMPORTER = Importer(
    "msvd",
    import_msvd,
    Sources.ONE,
    "FOLDER",
    "AllVideoDescriptions.txt or the table, and clips",
    options=(FOLLOW_LINKS,),
    sentences=True,
)
