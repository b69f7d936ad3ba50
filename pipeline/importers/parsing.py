"""Read published files: lines of text, JSON and file names.

Invalid input raises a UserError that names the file and the line, or the file, the record's index
and its field.
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

from intertitle.pipeline.decoding.endings import VIDEO_SUFFIXES
from intertitle.pipeline.errors import UserError, is_text
from intertitle.pipeline.importers.text_lines import text_lines
from intertitle.pipeline.importers.walk import Walk, has_suffix, is_hidden

# No sentence, question or review has more words; a longer text has lost its line breaks.
MAX_WORDS = 5_000

# Matches a character that `clean_text` does not remove.
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
    """Iterate over the lines of a file: line number, from 1, and text without the line ending.

    A byte-order mark is dropped. Only LF and CRLF end a line, so that files which are aligned line
    by line stay aligned.

    Raises:
        UserError: the file is missing, or a line is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            yield from text_lines(stream, str(file))
    except FileNotFoundError as error:
        raise UserError(f"{file}: missing") from error


def format_value(value: object) -> str:
    """Format a value for a message on one line; long values are shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def is_blank(text: str) -> bool:
    """Return whether a text is empty after cleaning."""
    return _LEGIBLE.search(text) is None


def is_too_long(text: str) -> bool:
    """Return whether a text has more than MAX_WORDS words."""
    # A shorter text can't have too many words, so that most texts need not be split.
    return len(text) >= 2 * MAX_WORDS and len(text.split()) > MAX_WORDS


def check_caption(text: str, where: str) -> bool:
    """Return whether a text is not empty after cleaning.

    Raises:
        UserError: the text has more than MAX_WORDS words.
    """
    if is_too_long(text):
        raise UserError(f"{where}: {len(text.split())} words, allowed: {MAX_WORDS}")
    return not is_blank(text)


def valid_name(name: str, where: str) -> str:
    """Check that a name can be stored in a table, and return it.

    Raises:
        UserError: the name is not valid Unicode.
    """
    if not is_text(name):
        raise UserError(f"{where}: {format_value(name)} is not valid Unicode")
    return name


def split_named(stem: str) -> str | None:
    """Return the split that a file stem such as `dev` or `ptb.train` means, or None."""
    return _SPLIT_NAMES.get(stem.rpartition(".")[2].lower())


def find_file(folders: Iterable[Path], name: str, where: str) -> Path | None:
    """Return the first file with a given name in a list of folders, or None.

    Raises:
        UserError: the name is empty or leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UserError(
            f"{where}: {format_value(name)}, expected the name of a file in the data set"
        )
    return next(
        (candidate for folder in folders if (candidate := on_disk(folder, name)).is_file()), None
    )


def composed(name: str) -> str:
    """Return a name in Unicode's composed form (NFC).

    macOS writes `é` as two code points and other systems as one; both are the same name.
    """
    return unicodedata.normalize("NFC", name)


def on_disk(folder: Path, name: str) -> Path:
    """Return a path below a folder as spelled on disk, with accents composed or decomposed."""
    path = folder / name
    if name.isascii() or path.exists():
        return path
    place = folder
    for part in PurePosixPath(name).parts:
        place = place / _spellings(place, changed_ns(place)).get(composed(part), part)
    return place


def changed_ns(folder: Path) -> int:
    """Return the time of a folder's last change in nanoseconds, 0 if there is no such folder."""
    return folder.stat().st_mtime_ns if folder.is_dir() else 0


@lru_cache(maxsize=64)
def _spellings(folder: Path, changed_ns: int) -> dict[str, str]:
    """Return the names in a folder by their composed form.

    The time of the folder's last change, in nanoseconds, is part of the cache key.
    """
    return {composed(path.name): path.name for path in folder.iterdir()} if changed_ns else {}


def videos_in(walked: Walk) -> dict[str, Path]:
    """Return the path of every video below a folder by its stem in composed form (NFC)."""
    videos: dict[str, Path] = {}
    for file in walked.files:
        if has_suffix(file.name, VIDEO_SUFFIXES):
            videos.setdefault(composed(PurePosixPath(file.name).stem), file.path)
    return videos


@dataclass(frozen=True, slots=True)
class JsonRecord:
    """An object in a JSON file, with its place in the file.

    Attributes:
        file: path of the file.
        path: path of the object in the file, such as `images[3]`; empty for the whole file.
        values: fields of the object.
    """

    file: Path
    path: str
    values: dict[str, Any]

    @property
    def where(self) -> str:
        """The place of the object, for messages."""
        return f"{self.file}: {self.path}" if self.path else str(self.file)

    def at(self, field: str) -> str:
        """Return the place of a field, for messages."""
        return f"{self.where}.{field}" if self.path else f"{self.file}: {field}"

    def get(self, field: str, kind: type[T]) -> T:
        """Return the value of a field.

        Raises:
            UserError: the field is missing, or its value has another type.
        """
        if field not in self.values:
            raise UserError(f"{self.at(field)}: missing")
        value = self.values[field]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{self.at(field)}: {format_value(value)}, expected {_KINDS[kind]}")
        return value

    def records(self, field: str) -> Iterator[JsonRecord]:
        """Iterate over the objects in a field that is a list of objects.

        Raises:
            UserError: the field is missing, or is not a list of objects.
        """
        for index, values in enumerate(self.get(field, list)):
            path = f"{self.path}.{field}[{index}]" if self.path else f"{field}[{index}]"
            if not isinstance(values, dict):
                raise UserError(f"{self.file}: {path}: {format_value(values)}, expected an object")
            yield JsonRecord(self.file, path, values)


def read_json(file: Path) -> JsonRecord:
    """Read a JSON file that contains one object.

    Raises:
        UserError: the file is missing, not UTF-8 or not JSON, or does not contain an object.
    """
    values = _load_json(file)
    if not isinstance(values, dict):
        raise UserError(f"{file}: {format_value(values)}, expected an object")
    return JsonRecord(file, "", values)


def read_json_list(file: Path) -> Iterator[JsonRecord]:
    """Read a JSON file that contains a list of objects.

    Raises:
        UserError: the file is missing, not UTF-8 or not JSON, or does not contain such a list.
    """
    values = _load_json(file)
    if not isinstance(values, list):
        raise UserError(f"{file}: {format_value(values)}, expected a list")
    # The list has no name in the file.
    return JsonRecord(file, "", {"": values}).records("")


def _load_json(file: Path) -> Any:
    try:
        return json.loads("\n".join(line for _, line in lines(file)))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{file}: not JSON that can be read: nested too deeply") from error


def by_id(records: Iterable[JsonRecord], field: str, kind: type[Id]) -> dict[Id, JsonRecord]:
    """Index records by a field with unique values.

    Raises:
        UserError: two records have the same value; the message names both.
    """
    indexed: dict[Id, JsonRecord] = {}
    for record in records:
        id_ = record.get(field, kind)
        if id_ in indexed:
            first = indexed[id_].where
            raise UserError(
                f"{record.at(field)}: {format_value(id_)} is taken by {first}; ids are unique"
            )
        indexed[id_] = record
    return indexed


def folder_of(source: Path) -> Path:
    """Check that a source is a folder, and return it.

    Raises:
        UserError: the source is not a folder.
    """
    if not source.is_dir():
        raise UserError(f"{source}: not a folder")
    return source


def files_of(source: Path, suffix: str) -> Sequence[Path]:
    """Return a source that is a file, or all files in a folder that have a given suffix.

    Raises:
        UserError: there is no such file, or a file name is not valid Unicode.
    """
    files = [source]
    if not source.is_file():
        files = sorted(
            p
            for p in folder_of(source).iterdir()
            if p.suffix.lower() == suffix and not is_hidden(p.name)
        )
    if not files:
        raise UserError(f"{source}: has no files that end in {suffix}")
    return [file for file in files if valid_name(file.name, str(source))]
