"""Files that a table names, as items."""

from __future__ import annotations

import posixpath
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from intertitle.pipeline.corpus import Item, Kind
from intertitle.pipeline.decoding.endings import IMAGE_SUFFIXES, KNOWN_SUFFIXES, VIDEO_SUFFIXES
from intertitle.pipeline.errors import FileError, UserError
from intertitle.pipeline.importers.kinds import kind_of
from intertitle.pipeline.importers.parsing import (
    changed_ns,
    composed,
    format_value,
    on_disk,
    valid_name,
)
from intertitle.pipeline.importers.walk import has_suffix
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local, is_url, normalized


class ItemFiles:
    """Finds the files that a table names.

    Args:
        root: folder or URL that names start from.
        prefix: beginning of the keys of files below that folder.
        kind: kind of files that have no known suffix, or None.
    """

    def __init__(self, root: AnyPath, prefix: str, kind: Kind | None) -> None:
        self._root, self._prefix, self._kind = as_path(root), prefix, kind
        self._items: dict[str, Item | None] = {}

    def find(self, name: str, where: str) -> tuple[str, Item | None]:
        """Return the key of a file, and its item, or None if the file is missing.

        Whether a URL leads to a file is not checked.

        Raises:
            UserError: the name is empty or no text, or the file's kind is not known.
        """
        if not name.strip():
            raise UserError(f"{where}: {format_value(name)}, expected the name of a file")
        name = _one_spelling(valid_name(name.strip(), where))
        key = name if is_url(name) or name.startswith("/") else f"{self._prefix}{name}"
        if key not in self._items:
            try:
                self._items[key] = self._find(key, name)
            except FileError as error:
                raise UserError(f"{where}: {error}") from error
        return key, self._items[key]

    def _find(self, key: str, name: str) -> Item | None:
        if is_url(name):
            return Item(key, name, self._kind_by_name(urlsplit(name).path))
        if not is_local(self._root):
            return Item(key, f"{str(self._root).rstrip('/')}/{name}", self._kind_by_name(name))
        path = self._path(name)
        if path is None:
            return None
        kind = kind_of(path) if has_suffix(path.name) or self._kind is None else self._kind
        return Item(key, str(normalized(path)), kind)

    def _path(self, named: str) -> Path | None:
        """Return the path of a file; its name may lack the suffix or have backslashes."""
        root = Path(str(self._root))
        for name in dict.fromkeys((named, named.replace("\\", "/"))):
            path = on_disk(root, name)
            if path.is_file():
                return path
            if not has_suffix(name):
                same_stem = _stems(path.parent, changed_ns(path.parent)).get(
                    composed(path.name), ()
                )
                if len(same_stem) == 1:
                    return same_stem[0]
        return None

    def _kind_by_name(self, name: str) -> Kind:
        if has_suffix(name, VIDEO_SUFFIXES):
            return "video"
        if has_suffix(name, IMAGE_SUFFIXES):
            return "image"
        if self._kind is None:
            known = " ".join(sorted(KNOWN_SUFFIXES))
            raise FileError(
                "unreadable",
                f"ending {PurePosixPath(name).suffix!r}, allowed: {known}; or --kind image|video",
            )
        return self._kind


def _one_spelling(name: str) -> str:
    """Return one spelling for the names of one file."""
    return name if is_url(name) else composed(posixpath.normpath(name))


@lru_cache(maxsize=64)
def _stems(folder: Path, time_ns: int) -> dict[str, list[Path]]:
    """Return the videos and images in a folder by their names without suffixes.

    The time of the folder's last change, in nanoseconds, is part of the cache key.
    """
    stems: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if time_ns else ():
        if has_suffix(path.name):
            stems.setdefault(composed(path.stem), []).append(path)
    return stems
