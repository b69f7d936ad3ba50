"""What Flickr8k and Flickr30k have in common: captions by photograph, lists of photographs."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.importers.captioned import Caption, Captioned, image_item
from pipeline.importers.reading import composed, find_file, lines, shown

Captions = Mapping[str, Sequence[Caption]]

_TOKEN_LINE = re.compile(r"(?P<name>[^\t]+)#(?P<number>\d+)\t(?P<caption>.*)")
# One line of the published table lacks its second bar: "2199200615.jpg| 4   A dog runs ...".
_TABLE_LINE = re.compile(r"(?P<name>[^|]+)\|\s*(?P<number>\d+)\b\s*\|?(?P<caption>.*)")


def read_tokens(file: Path) -> Captions:
    """The captions of each photograph: `<file>#<n> TAB <caption>` a line.

    Raises:
        UserError: the file is missing, or a line is not so or comes twice.
    """
    return _read(file, _TOKEN_LINE, "<file>#<n> TAB <caption>")


def read_table(file: Path) -> Captions:
    """The captions of each photograph: `<file>| <n>| <caption>` a line, below a header.

    Raises:
        UserError: the file is missing, or a line is not so or comes twice.
    """
    return _read(file, _TABLE_LINE, "<file>| <n>| <caption>", header="image_name|")


def _read(file: Path, pattern: re.Pattern[str], expected: str, header: str = "\n") -> Captions:
    captions: defaultdict[str, list[Caption]] = defaultdict(list)
    seen: dict[tuple[str, int], int] = {}
    for number, line in lines(file):
        if not line.strip() or (number == 1 and line.startswith(header)):
            continue
        where = f"{file}: line {number}"
        match = pattern.fullmatch(line)
        if match is None:
            raise UserError(f"{where}: {shown(line)}, expected {expected}")
        id_ = (composed(match["name"]), int(match["number"]))
        if id_ in seen:
            raise UserError(
                f"{where}: caption {id_[1]} of {id_[0]!r} is on line {seen[id_]} already"
            )
        seen[id_] = number
        captions[composed(match["name"])].append(Caption(match["caption"], where))
    return captions


def read_list(
    file: Path, split: str, captions: Captions, folders: Sequence[Path]
) -> Iterator[Captioned]:
    """The photographs that a list names, a line each, with or without `.jpg`.

    Raises:
        UserError: one of them has no caption.
    """
    for number, line in lines(file):
        name = composed(line.strip())
        if not name:
            continue
        if name not in captions and f"{name}.jpg" in captions:
            name = f"{name}.jpg"
        where = f"{file}: line {number}"
        item = image_item(name, find_file(folders, name, where))
        yield Captioned(name, item, split, captions.get(name, ()), where)
