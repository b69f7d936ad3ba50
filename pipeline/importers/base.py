"""Write a corpus of captioned videos and images; shared by all captioning data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from intertitle.pipeline.corpus import Example, Item, write_corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.parsing import check_caption, valid_name
from intertitle.pipeline.importers.report import ImportReport, count_import
from intertitle.pipeline.storage.paths import AnyPath, normalized


@dataclass(frozen=True, slots=True)
class Caption:
    """One caption.

    Attributes:
        text: sentence.
        where: place that it was read from, for messages.
    """

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class CaptionedItem:
    """A video or image that a data set names.

    Attributes:
        name: key of the item and id of the example.
        item: the video or image, or None if its file is missing.
        split: split of the example.
        captions: captions of the item.
        where: place in the data set that names the item, for messages.
    """

    name: str
    item: Item | None
    split: str
    captions: Sequence[Caption]
    where: str


def image_item(name: str, path: Path | None) -> Item | None:
    """Make an item for an image, or return None if its file was not found."""
    return None if path is None else Item(name, str(normalized(path)), "image")


def video_item(name: str, path: Path | None) -> Item | None:
    """Make an item for a video, or return None if its file was not found."""
    return None if path is None else Item(name, str(normalized(path)), "video")


def write_captioned(
    source: Path,
    out: AnyPath,
    things: Iterable[CaptionedItem],
    notes: list[str],
    left_out: Mapping[str, int] | None = None,
) -> ImportReport:
    """Write a corpus of captioned items.

    Items whose file is missing are left out and reported. Empty captions are left out and counted,
    because published data sets contain a few.

    Raises:
        UserError: a name occurs twice, an item has no caption, a caption is too long, or all files
            are missing.
    """
    items: list[Item] = []
    examples: list[Example] = []
    missing: list[str] = []
    places: dict[str, str] = {}
    num_empty = 0
    for thing in things:
        if thing.name in places:
            raise UserError(
                f"{thing.where}: {thing.name!r} is taken by {places[thing.name]}; names are unique"
            )
        places[valid_name(thing.name, thing.where)] = thing.where
        captions = tuple(c.text for c in thing.captions if check_caption(c.text, c.where))
        if not captions:
            raise UserError(f"{thing.where}: {thing.name!r} has no caption")
        num_empty += len(thing.captions) - len(captions)
        if thing.item is None:
            missing.append(thing.name)
        else:
            items.append(thing.item)
            examples.append(Example(thing.name, thing.split, thing.name, None, captions))
    if not items:
        first = f", the first is {missing[0]!r}" if missing else ""
        raise UserError(f"{source}: has none of the {len(missing)} files that are named{first}")
    if num_empty:
        notes = [*notes, f"{num_empty} empty captions left out"]
    return count_import(write_corpus(out, items, examples), missing, notes, left_out)
