"""Files that a table names, as items."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from intertitle.pipeline.corpus import Item, Kind, Member, parse_member
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.endings import (
    ANIMATED_SUFFIXES,
    IMAGE_SUFFIXES,
    KNOWN_SUFFIXES,
    VIDEO_SUFFIXES,
    ending_for,
)
from intertitle.pipeline.errors import FileError, UserError
from intertitle.pipeline.importers.kinds import is_animation, kind_of
from intertitle.pipeline.importers.parsing import (
    changed_ns,
    composed,
    format_value,
    on_disk,
    valid_name,
)
from intertitle.pipeline.importers.walk import has_suffix
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local, is_url, normalized

# Number of bytes that say which format a file has.
_HEAD_BYTES = 400


class ItemFiles:
    """Finds the files that a table names.

    Args:
        root: folder or URL that names start from.
        prefix: beginning of the keys of files below that folder.
        kind: kind of files that have no known suffix, or None.
        folders: folders that files of this machine have to be in; None allows all files below
            `root`, and elsewhere those with a known suffix.
        must_exist: whether the files have to be there; without them, an item is what is named.
    """

    def __init__(
        self,
        root: AnyPath,
        prefix: str,
        kind: Kind | None,
        folders: Sequence[Path] | None = None,
        *,
        must_exist: bool = True,
    ) -> None:
        self._root, self._prefix, self._kind = as_path(root), prefix, kind
        self._folders = None if folders is None else [folder.resolve() for folder in folders]
        self._must_exist = must_exist
        self._items: dict[str, Item | None] = {}

    def find(self, name: str, where: str) -> tuple[str, Item | None]:
        """Return the key of a file, and its item, or None if the file is missing.

        Whether a URL leads to a file is not checked.

        Raises:
            UserError: the name is empty or no text, the file's kind is not known, or the file may
                not be named.
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
        if (member := parse_member(name)) is not None:
            return self._find_member(key, member)
        if is_url(name):
            try:
                return Item(key, name, self._kind_by_name(urlsplit(name).path))
            except ValueError as error:
                raise FileError("unreadable", f"not a URL: {error}") from error
        if not is_local(self._root):
            return Item(key, f"{str(self._root).rstrip('/')}/{name}", self._kind_by_name(name))
        if not self._must_exist:
            place = Path(str(self._root), name)
            self._check_place(place)
            return Item(key, str(normalized(place)), self._kind_by_name(name))
        path = self._path(name)
        if path is None:
            return None
        self._check_place(path)
        kind = kind_of(path) if has_suffix(path.name) or self._kind is None else self._kind
        return Item(key, str(normalized(path)), kind)

    def _find_member(self, key: str, member: Member) -> Item | None:
        """Return the item of a range of a file's bytes, whose kind is that of the bytes."""
        if is_url(member.uri) or not is_local(self._root):
            if self._kind is None:
                raise FileError("unreadable", "a part of a remote file: needs --kind image|video")
            uri = (
                member.uri if is_url(member.uri) else f"{str(self._root).rstrip('/')}/{member.uri}"
            )
            return Item(key, replace(member, uri=uri).to_uri(), self._kind)
        path = on_disk(self._root, member.uri)
        if not path.is_file():
            return None
        if self._folders is not None:
            self._check_place(path)
        try:
            with path.open("rb") as file:
                file.seek(member.offset)
                head = file.read(min(member.size_bytes, _HEAD_BYTES))
                ending = ending_for(head)
                kind: Kind = "video" if ending in VIDEO_SUFFIXES else "image"
                if ending in ANIMATED_SUFFIXES:
                    rest = file.read(member.size_bytes - len(head))
                    kind = "video" if is_animation(io.BytesIO(head + rest)) else "image"
        except OSError as error:
            raise FileError("unreadable", f"{path}: {error.strerror}") from error
        except ProbeError as error:
            raise FileError("unreadable", f"{key}: neither a video nor an image") from error
        uri = str(normalized(path))
        return Item(key, replace(member, uri=uri).to_uri(), self._kind or kind)

    def _check_place(self, path: Path) -> None:
        """Check that a table may name a file, because it may be somebody else's table."""
        file = path.resolve()
        if self._folders is not None:
            if not any(file.is_relative_to(folder) for folder in self._folders):
                listed = ", ".join(map(str, self._folders))
                raise FileError("refused", f"{file}: allowed: files below {listed}")
        elif not (has_suffix(path.name) or file.is_relative_to(Path(str(self._root)).resolve())):
            raise FileError(
                "refused",
                f"{file}: outside of {self._root}, where only names with the ending of a video or "
                "image are allowed; or --root",
            )

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
