"""Keys of arrays: lists of the rows of a packed array, and how keys name the items of a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError, is_text

# Names of a field or column with keys, in the order in which they are tried.
KEY_FIELDS = ("key", "item_key", "id", "video", "image", "video_id", "image_id", "file_name")


def key_column(names: Sequence[str], where: str) -> str:
    """Return the first of KEY_FIELDS among some names.

    Raises:
        UserError: none of them is there.
    """
    for name in KEY_FIELDS:
        if name in names:
            return name
    listed = ", ".join(names) or "none"
    raise UserError(f"{where}: no field with keys among {listed}; allowed: {', '.join(KEY_FIELDS)}")


@dataclass(frozen=True, slots=True)
class KeyedRows:
    """Keys of the rows of a packed array.

    Attributes:
        keys: key of each item, in the order of the array.
        ends: end of each item's rows; None if each item has one row, which may have dimensions of
            its own.
    """

    keys: tuple[str, ...]
    ends: tuple[int, ...] | None

    @classmethod
    def read(cls, file: Path, num_rows: int, array: str) -> KeyedRows:
        """Read a list of keys: a key per line, or JSON lines with a key and perhaps `frames`.

        With `frames`, the number of frames of each item, the items' frames follow each other in the
        array.

        Raises:
            UserError: the file cannot be read, a line has no key, or the keys do not fit the array.
        """
        keys: list[str] = []
        frames: list[int | None] = []
        try:
            # Only LF and CRLF end a line; `read_text` and `splitlines` know other ends too.
            lines = file.read_bytes().decode("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise UserError(f"--keys {file}: can't be read: {reason}") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                key, count = _parse(line.strip(), f"--keys {file}: line {number}")
                keys.append(key)
                frames.append(count)
        counts = [count for count in frames if count is not None]
        if counts and len(counts) < len(frames):
            raise UserError(f"--keys {file}: some lines have frames and others none")
        expected = sum(counts) if counts else len(keys)
        if expected != num_rows:
            unit = "frames" if counts else "keys"
            raise UserError(f"--keys {file}: {expected} {unit}, but {array} has {num_rows} rows")
        return cls(tuple(keys), tuple(accumulate(counts)) if counts else None)

    def split(self, packed: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
        """Iterate over the keys and their parts of a packed array."""
        start = 0
        for number, key in enumerate(self.keys):
            if self.ends is None:
                yield key, np.asarray(packed[number])
            else:
                yield key, np.asarray(packed[start : self.ends[number]])
                start = self.ends[number]


def _parse(line: str, where: str) -> tuple[str, int | None]:
    if not line.startswith("{"):
        return line, None
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON: {error}") from error
    name = key_column(list(fields), where)
    key, count = fields[name], fields.get("frames")
    if not (is_text(key) or type(key) is int):
        raise UserError(f"{where}: {name}: {key!r}, allowed: a text")
    if count is not None and (type(count) is not int or count < 0):
        raise UserError(f"{where}: frames: {count!r}, allowed: a whole number from 0")
    return str(key), count


class ItemKeys:
    """Items of a corpus by the keys that arrays have.

    A key names the item with this key. Otherwise the endings of file names are ignored, and the
    folders too if only one of the two has any; exactly one item must match.

    Args:
        keys: keys of the items.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._exact = set(keys)
        self._short: dict[str, str | None] = {}
        for key in self._exact:
            for short in {_without_ending(key), _without_ending(_file_name(key))}:
                self._short[short] = None if short in self._short else key

    def find(self, key: str) -> str | None:
        """Return the key of an item, or None if no item or more than one matches."""
        if key in self._exact:
            return key
        match = self._short.get(key) or self._short.get(_without_ending(key))
        if match is None and "/" in key:
            match = self._short.get(_without_ending(_file_name(key)))
            return None if match is None or "/" in match else match
        return match


def _file_name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _without_ending(key: str) -> str:
    stem, _, ending = key.rpartition(".")
    return stem if stem and not stem.endswith("/") and ending.isalnum() else key
