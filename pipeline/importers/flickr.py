"""Read the files that Flickr8k and Flickr30k share: captions and lists of photographs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import Caption, CaptionedItem, image_item
from intertitle.pipeline.importers.parsing import composed, find_file, format_value, lines

Captions = Mapping[str, Sequence[Caption]]

_TOKEN_LINE = re.compile(r"(?P<name>[^\t]+)#(?P<number>\d+)\t(?P<caption>.*)")
# One line of the published table lacks its second separator: "2199200615.jpg| 4   A dog runs ...".
_TABLE_LINE = re.compile(r"(?P<name>[^|]+)\|\s*(?P<number>\d+)\b\s*\|?(?P<caption>.*)")


def read_tokens(file: Path) -> Captions:
    """Read the captions of each photograph from lines `<file>#<n> TAB <caption>`.

    Raises:
        UserError: the file is missing, a line has another form, or a caption occurs twice.
    """
    return _read(file, _TOKEN_LINE, "<file>#<n> TAB <caption>")


def read_table(file: Path) -> Captions:
    """Read the captions of each photograph from lines `<file>| <n>| <caption>` below a header.

    Raises:
        UserError: the file is missing, a line has another form, or a caption occurs twice.
    """
    return _read(file, _TABLE_LINE, "<file>| <n>| <caption>", header="image_name|")


def _read(file: Path, pattern: re.Pattern[str], expected: str, header: str = "\n") -> Captions:
    captions: defaultdict[str, list[Caption]] = defaultdict(list)
    line_of: dict[tuple[str, int], int] = {}
    for number, line in lines(file):
        if not line.strip() or (number == 1 and line.startswith(header)):
            continue
        where = f"{file}: line {number}"
        match = pattern.fullmatch(line)
        if match is None:
            raise UserError(f"{where}: {format_value(line)}, expected {expected}")
        id_ = (composed(match["name"]), int(match["number"]))
        if id_ in line_of:
            raise UserError(
                f"{where}: caption {id_[1]} of {id_[0]!r} is on line {line_of[id_]} already"
            )
        line_of[id_] = number
        captions[composed(match["name"])].append(Caption(match["caption"], where))
    return captions


def read_list(
    file: Path, split: str, captions: Captions, folders: Sequence[Path]
) -> Iterator[CaptionedItem]:
    """Read the photographs of a list with one file name per line, with or without `.jpg`.

    A photograph without captions has an empty list of captions, which `write_captioned` rejects.

    Raises:
        UserError: the list is missing, is not UTF-8, or names a path outside the data set.
    """
    for number, line in lines(file):
        name = composed(line.strip())
        if not name:
            continue
        if name not in captions and f"{name}.jpg" in captions:
            name = f"{name}.jpg"
        where = f"{file}: line {number}"
        item = image_item(name, find_file(folders, name, where))
        yield CaptionedItem(name, item, split, captions.get(name, ()), where)
