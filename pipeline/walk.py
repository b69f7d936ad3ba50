"""What lies below a folder: one walk for every importer and for `predict`, which leaves out what is
hidden, follows links only if it is asked to, and counts what it left out."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.endings import KNOWN_SUFFIXES

# Folders that programs leave beside a person's files: archives of macOS, a Synology disk's
# thumbnails, the bin of Windows.
_HIDDEN = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN"})


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below a folder.

    Attributes:
        name: its path below the folder, with slashes.
        path: where it is; for a link, what it leads to.
    """

    name: str
    path: Path


@dataclass(slots=True)
class Walk:
    """What lies below a folder.

    Attributes:
        files: by name, without what is left out.
        broken: names of the links that lead nowhere.
        hidden: number of files left out because their name or that of a folder above them begins
            with a dot, or programs keep their own files there.
        links: number of links left out that lead out of the folder, or to a folder.
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
        """How much was left out, by the reason."""
        return {
            "hidden": self.hidden,
            "links": self.links,
            "repeated": self.repeated,
            "unreadable": self.unreadable,
        }

    def notes(self) -> list[str]:
        """What was left out, a line each, for a person."""
        counts = {
            "hidden files left out": self.hidden,
            "links left out: --follow-links follows them": self.links,
            "folders left out: links lead to them again": self.repeated,
            "folders left out: they can't be read": self.unreadable,
        }
        return [f"{count} {what}" for what, count in counts.items() if count]


def is_hidden(name: str) -> bool:
    """Whether a path below a folder is hidden, or is in a folder that is."""
    return any(part.startswith(".") or part in _HIDDEN for part in PurePosixPath(name).parts)


def has_suffix(name: str, suffixes: Collection[str] = KNOWN_SUFFIXES) -> bool:
    """Whether a name ends in one of some endings, in whatever case."""
    return PurePosixPath(name).suffix.lower() in suffixes


def walk(folder: Path, follow_links: bool = False) -> Walk:
    """Find all files below a folder.

    A link to a file in the same folder tree is such a file. Other links, and those to folders, are
    followed only if asked; each folder is walked once, so that loops end.
    """
    found = Walk()
    root = folder.resolve()
    seen: set[tuple[int, int]] = set()
    linked = _walk_tree(folder, "", root, follow_links, seen, found)
    while linked:
        name, target = linked.pop(0)
        linked += _walk_tree(target, f"{name}/", root, follow_links, seen, found)
    found.files.sort(key=lambda file: file.name)
    found.broken.sort()
    return found


def _walk_tree(
    folder: Path,
    prefix: str,
    root: Path,
    follow_links: bool,
    seen: set[tuple[int, int]],
    found: Walk,
) -> list[tuple[str, Path]]:
    """Add what lies below a folder without following links to folders; return those to follow."""
    linked: list[tuple[str, Path]] = []

    def count_unreadable(_: OSError) -> None:
        found.unreadable += 1

    for place, folders, files in os.walk(folder, onerror=count_unreadable):
        folders.sort()
        info = Path(place).stat()
        if (info.st_dev, info.st_ino) in seen:
            found.repeated += 1
            folders.clear()
            continue
        seen.add((info.st_dev, info.st_ino))
        for name in sorted([*folders, *files]):
            path = Path(place) / name
            below = f"{prefix}{path.relative_to(folder).as_posix()}"
            if path.is_symlink():
                if is_hidden(below):
                    found.hidden += 1
                elif not path.exists():
                    found.broken.append(below)
                elif path.is_dir():
                    if follow_links:
                        linked.append((below, path.resolve()))
                    else:
                        found.links += 1
                else:
                    target = path.resolve()
                    if follow_links or target.is_relative_to(root):
                        found.files.append(FoundFile(below, target))
                    else:
                        found.links += 1
            elif name in files:
                if is_hidden(below):
                    found.hidden += 1
                else:
                    found.files.append(FoundFile(below, path))
    return sorted(linked)
