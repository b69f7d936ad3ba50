"""Captions of videos and images become a corpus: what all captioning data sets have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.corpus import Example, Item, write_corpus
from pipeline.errors import UserError
from pipeline.importers.reading import says_something, valid_name
from pipeline.importers.report import ImportReport, report_import
from pipeline.location import AnyPath, normalized


@dataclass(frozen=True, slots=True)
class Caption:
    """One sentence, and where it was read."""

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class Captioned:
    """A video or image that a data set names.

    Attributes:
        name: its key; also the example's id.
        item: what there is to look at; None where the file is absent.
        split: of the example.
        captions: what is said of it.
        where: the place that names it.
    """

    name: str
    item: Item | None
    split: str
    captions: Sequence[Caption]
    where: str


def image_item(name: str, path: Path | None) -> Item | None:
    """An item for an image whose file was found."""
    return None if path is None else Item(name, str(normalized(path)), "image")


def video_item(name: str, path: Path | None) -> Item | None:
    """An item for a video whose file was found."""
    return None if path is None else Item(name, str(normalized(path)), "video")


def write_captioned(
    source: Path,
    out: AnyPath,
    things: Iterable[Captioned],
    notes: list[str],
    left_out: Mapping[str, int] | None = None,
) -> ImportReport:
    """Make a corpus of what is captioned.

    What is absent on disk is reported as missing and left out. A caption that says nothing is left
    out and counted, because published sets have a few.

    Raises:
        UserError: a name comes twice, nothing is said of one, a caption is too long, or none of
            the files is there.
    """
    items: list[Item] = []
    examples: list[Example] = []
    missing: list[str] = []
    seen: dict[str, str] = {}
    num_empty = 0
    for thing in things:
        if thing.name in seen:
            raise UserError(
                f"{thing.where}: {thing.name!r} is taken by {seen[thing.name]}; names are unique"
            )
        seen[valid_name(thing.name, thing.where)] = thing.where
        captions = tuple(c.text for c in thing.captions if says_something(c.text, c.where))
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
    return report_import(write_corpus(out, items, examples), missing, notes, left_out)
