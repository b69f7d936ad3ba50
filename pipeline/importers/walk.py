"""Find the files below a folder, for all importers and for `predict`.

Hidden files are left out, links are followed only on request, and everything left out is counted.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from intertitle.pipeline.decoding.endings import KNOWN_SUFFIXES

# Folders that systems create among a user's files: macOS in archives, Synology for thumbnails,
# Windows for deleted files.
_HIDDEN = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below a folder.

    Attributes:
        name: path below the folder, with slashes.
        path: path of the file; for a link, of its target.
    """

    name: str
    path: Path


@dataclass(slots=True)
class Walk:
    """The files below a folder, and counts of what was left out.

    Attributes:
        files: files sorted by name, without those that were left out.
        broken: names of links whose target does not exist.
        hidden: number of files left out because they are hidden (see `is_hidden`).
        links: number of links left out because they lead out of the folder, or to a folder.
        repeated: number of folders left out because a followed link led to them again.
        unreadable: number of folders left out because they can't be listed.
    """

    files: list[FoundFile] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    hidden: int = 0
    links: int = 0
    repeated: int = 0
    unreadable: int = 0

    def left_out(self) -> dict[str, int]:
        """Return the numbers of what was left out, by reason."""
        return {
            "hidden": self.hidden,
            "links": self.links,
            "repeated": self.repeated,
            "unreadable": self.unreadable,
        }

    def notes(self) -> list[str]:
        """Describe what was left out, for the user, one line per reason."""
        counts = {
            "hidden files left out": self.hidden,
            "links left out: --follow-links follows them": self.links,
            "folders left out: links lead to them again": self.repeated,
            "folders left out: they can't be read": self.unreadable,
        }
        return [f"{count} {reason}" for reason, count in counts.items() if count]


def is_hidden(name: str) -> bool:
    """Return whether a path below a folder is hidden.

    A path is hidden if a part of it begins with a dot, or is a folder in which systems keep their
    own files.
    """
    return any(part.startswith(".") or part in _HIDDEN for part in PurePosixPath(name).parts)


def has_suffix(name: str, suffixes: Collection[str] = KNOWN_SUFFIXES) -> bool:
    """Return whether a file name has one of the suffixes, in upper or lower case."""
    return PurePosixPath(name).suffix.lower() in suffixes


def walk(folder: Path, follow_links: bool = False) -> Walk:
    """Find all files below a folder.

    A link to a file inside the folder counts as a file. Other links, and links to folders, are
    followed only with `follow_links`. Each folder is visited once, so that loops end.
    """
    walked = Walk()
    root = folder.resolve()
    visited: set[tuple[int, int]] = set()
    linked = _walk_tree(folder, "", root, follow_links, visited, walked)
    while linked:
        name, target = linked.pop(0)
        linked += _walk_tree(target, f"{name}/", root, follow_links, visited, walked)
    walked.files.sort(key=lambda file: file.name)
    walked.broken.sort()
    return walked


def _walk_tree(
    folder: Path,
    prefix: str,
    root: Path,
    follow_links: bool,
    visited: set[tuple[int, int]],
    walked: Walk,
) -> list[tuple[str, Path]]:
    """Add the files below a folder to `walked`; return the links to folders, to follow next."""
    linked: list[tuple[str, Path]] = []

    def count_unreadable(_: OSError) -> None:
        walked.unreadable += 1

    for place, folders, files in os.walk(folder, onerror=count_unreadable):
        folders.sort()
        info = Path(place).stat()
        if (info.st_dev, info.st_ino) in visited:
            walked.repeated += 1
            folders.clear()
            continue
        visited.add((info.st_dev, info.st_ino))
        for name in sorted([*folders, *files]):
            path = Path(place) / name
            below = f"{prefix}{path.relative_to(folder).as_posix()}"
            if path.is_symlink():
                if is_hidden(below):
                    walked.hidden += 1
                elif not path.exists():
                    walked.broken.append(below)
                elif path.is_dir():
                    if follow_links:
                        linked.append((below, path.resolve()))
                    else:
                        walked.links += 1
                else:
                    target = path.resolve()
                    if follow_links or target.is_relative_to(root):
                        walked.files.append(FoundFile(below, target))
                    else:
                        walked.links += 1
            elif name in files:
                if is_hidden(below):
                    walked.hidden += 1
                else:
                    walked.files.append(FoundFile(below, path))
    return sorted(linked)
