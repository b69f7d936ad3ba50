"""Reading what others published: lines, JSON and names of files.

Whatever is wrong ends in a UserError that names the file and the line, or the file, the record's
index and its field.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from pipeline.endings import VIDEO_SUFFIXES
from pipeline.errors import UserError
from pipeline.walk import Walk, has_suffix, is_hidden

# More than any sentence, question or review has; a longer one lost its ends of line.
MAX_WORDS = 5_000

# What `clean_text` leaves something of.
_LEGIBLE = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]")

_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}

T = TypeVar("T", str, int, list[Any], dict[str, Any])
Id = TypeVar("Id", str, int)


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Each line's number, from 1, and its text without its end.

    A byte-order mark is dropped, and CRLF ends a line as LF does; nothing else does, so that
    files which are aligned line by line stay so.

    Raises:
        UserError: the file is missing, or a line is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                try:
                    text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    message = f"{file}: line {number}: not UTF-8 at byte {error.start}"
                    raise UserError(message) from error
                yield number, text.removesuffix("\n").removesuffix("\r")
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing") from error


def shown(value: object) -> str:
    """A value on one line, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_blank(text: str) -> bool:
    """Whether nothing of a text is left once it is cleaned."""
    return _LEGIBLE.search(text) is None


def is_too_long(text: str) -> bool:
    """Whether a text has more than MAX_WORDS words."""
    # So short a text can't have too many: most are not counted.
    return len(text) >= 2 * MAX_WORDS and len(text.split()) > MAX_WORDS


def says_something(text: str, where: str) -> bool:
    """Whether something of a text is left once it is cleaned.

    Raises:
        UserError: it has more than MAX_WORDS words.
    """
    if is_too_long(text):
        raise UserError(f"{where}: {len(text.split())} words, allowed: {MAX_WORDS}")
    return not is_blank(text)


def valid_name(name: str, where: str) -> str:
    """The name itself, which can stand in a table.

    Raises:
        UserError: it is not valid Unicode.
    """
    if any("\ud800" <= c <= "\udfff" for c in name):
        raise UserError(f"{where}: {shown(name)} is not valid Unicode")
    return name


def split_named(stem: str) -> str | None:
    """The split that a file's name without its ending speaks of, if it does: `dev`, `ptb.train`."""
    return _SPLIT_NAMES.get(stem.rpartition(".")[2].lower())


def find_file(folders: Iterable[Path], name: str, where: str) -> Path | None:
    """The first file of a name in one of some folders.

    Raises:
        UserError: the name leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(f"{where}: {shown(name)}, expected the name of a file in the data set")
    return next((found for folder in folders if (found := _on_disk(folder, name)).is_file()), None)


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): macOS writes `é` as two code points, others as one,
    and both are the same name."""
    return unicodedata.normalize("NFC", name)


def _on_disk(folder: Path, name: str) -> Path:
    """A path below a folder as the disk spells it, whichever way it composes accents."""
    path = folder / name
    if name.isascii() or path.exists():
        return path
    place = folder
    for part in PurePosixPath(name).parts:
        place = place / _spellings(place, _changed_ns(place)).get(composed(part), part)
    return place


def _changed_ns(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.is_dir() else 0


@lru_cache(maxsize=64)
def _spellings(folder: Path, changed_ns: int) -> dict[str, str]:
    """The names in a folder by their composed form; of a folder that has not changed since."""
    return {composed(path.name): path.name for path in folder.iterdir()} if changed_ns else {}


def videos_in(found: Walk) -> dict[str, Path]:
    """Every video below a folder by its name without its ending, in its composed form."""
    videos: dict[str, Path] = {}
    for file in found.files:
        if has_suffix(file.name, VIDEO_SUFFIXES):
            videos.setdefault(composed(PurePosixPath(file.name).stem), file.path)
    return videos


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a JSON file, which knows where it stands in it.

    Attributes:
        file: the file.
        path: the way to it, as `images[3]`; nothing for the whole file.
        values: its fields.
    """

    file: Path
    path: str
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """Where it stands, for a message."""
        return f"{self.file}: {self.path}" if self.path else str(self.file)

    def at(self, field: str) -> str:
        """Where one of its fields stands."""
        return f"{self.where}.{field}" if self.path else f"{self.file}: {field}"

    def get(self, field: str, kind: type[T]) -> T:
        """The value of a field.

        Raises:
            UserError: it is not there, or of another kind.
        """
        if field not in self.values:
            raise UserError(f"{self.at(field)}: missing")
        value = self.values[field]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{self.at(field)}: {shown(value)}, expected {_KINDS[kind]}")
        return value

    def records(self, field: str) -> Iterator[Record]:
        """The objects of a field that is a list of them."""
        for index, values in enumerate(self.get(field, list)):
            path = f"{self.path}.{field}[{index}]" if self.path else f"{field}[{index}]"
            if not isinstance(values, dict):
                raise UserError(f"{self.file}: {path}: {shown(values)}, expected an object")
            yield Record(self.file, path, values)


def read_json(file: Path) -> Record:
    """A JSON file that holds one object.

    Raises:
        UserError: it is missing, not UTF-8, not JSON, or holds something else.
    """
    try:
        values = json.loads("\n".join(line for _, line in lines(file)))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{file}: not JSON that can be read: nested too deeply") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: {shown(values)}, expected an object")
    return Record(file, "", values)


def by_id(records: Iterable[Record], field: str, kind: type[Id]) -> dict[Id, Record]:
    """Records by a field that is unique among them.

    Raises:
        UserError: two share a value; both are named.
    """
    found: dict[Id, Record] = {}
    for record in records:
        id_ = record.get(field, kind)
        if id_ in found:
            first = found[id_].where
            raise UserError(f"{record.at(field)}: {shown(id_)} is taken by {first}; ids are unique")
        found[id_] = record
    return found


def folder_of(source: Path) -> Path:
    """The source itself, which has to be a folder.

    Raises:
        UserError: it is none.
    """
    if not source.is_dir():
        raise UserError(f"{source}: not a folder")
    return source


def files_of(source: Path, suffix: str) -> Sequence[Path]:
    """A source that is one file, or the files of one ending in a folder.

    Raises:
        UserError: there is no such file.
    """
    found = [source]
    if not source.is_file():
        found = sorted(
            p
            for p in folder_of(source).iterdir()
            if p.suffix.lower() == suffix and not is_hidden(p.name)
        )
    if not found:
        raise UserError(f"{source}: has no files that end in {suffix}")
    return [file for file in found if valid_name(file.name, str(source))]
