"""Declarations of importers: what the command line, the API and errors say of each.

An importer's module declares one `Importer` and is listed in `dispatch.py`, or is an entry point of
the group `intertitle.importers` of an installed package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from intertitle.pipeline.importers.report import ImportReport


class Sources(Enum):
    """SOURCE arguments of an importer, which determine how its function is called.

    Attributes:
        NONE: none: `function(out, ...)`.
        ONE: one file or folder: `function(source, out, ...)`.
        FOLDER_AND_FILES: a folder and any number of files that are read instead of the folder's
            own: `function(folder, out, files, ...)`.
        MANY: any number: `function(sources, out, ...)`.
    """

    NONE = "none"
    ONE = "one"
    FOLDER_AND_FILES = "folder and files"
    MANY = "many"


@dataclass(frozen=True, slots=True)
class Option:
    """An option of importers: `--num-clips` of the command line, `num_clips` of the function.

    Attributes:
        name: name of the function's argument.
        help: help text, without the names of the importers that take it.
        type: type of the value: str, int or float; bool is a flag; `list[str]` may be repeated.
        metavar: word for the value in the help, where its type does not say enough.
    """

    name: str
    help: str
    type: Any = str
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return f"--{self.name.replace('_', '-')}"


@dataclass(frozen=True, slots=True)
class Importer:
    """An importer.

    The function is called with the sources, the corpus to write, and those of the declared options
    that the user gave, as keyword arguments; it returns an `ImportReport`.

    Attributes:
        name: name of the format.
        function: function that writes the corpus.
        sources: SOURCE arguments.
        arguments: SOURCE arguments in the help, such as "FOLDER [JSON...]".
        summary: line of the help: the data that it reads.
        options: options that the function takes.
        sentences: whether targets are sentences in some language, so that `--target-language` is
            allowed; the corpus states it.
        urls: whether sources may be URLs.
        progress: label of a progress bar, such as "drawing clips"; if given, the function takes
            `on_progress`, a callback with the numbers done and in total.
    """

    name: str
    function: Callable[..., ImportReport]
    sources: Sources
    arguments: str
    summary: str
    options: tuple[Option, ...] = ()
    sentences: bool = False
    urls: bool = False
    progress: str | None = None

    def takes(self, option: str) -> bool:
        """Return whether the importer takes an option."""
        return (option == TARGET_LANGUAGE.name and self.sentences) or any(
            option == own.name for own in self.options
        )


# Options that several importers share.
TARGET_LANGUAGE = Option(
    "target_language",
    "Language of the translations or captions, such as zh: determines how metrics split text into "
    "words; for parallel FOLDER also the suffix of the files to read",
)
FOLLOW_LINKS = Option(
    "follow_links", "Follow symbolic links to folders, and those that leave the folder", bool
)
SEED = Option("seed", "Random seed of clips, or of splits that are drawn; default: 0", int)
# Those of importers with `table.columns`.
COLUMN = Option(
    "column",
    "Column that has a role; may be repeated. Roles: file, caption, question, answer, "
    "question_kind, label, frame_labels, source, target, split, start, end; default: columns with "
    "the usual names",
    list[str],
    "ROLE=NAME",
)
SPLIT_DRAW = (
    Option("val_share", "Share of the files in val if splits are drawn; default: 0.1", float),
    Option("test_share", "Share of the files in test if splits are drawn; default: 0.1", float),
    SEED,
)
