"""Files of the tables that are imported: as named, in a Hugging Face folder, or downloaded."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.table.readers import ENDINGS, Table
from intertitle.pipeline.importers.table.splits import split_in_name, splits_of_tables
from intertitle.pipeline.storage.allowed_hosts import allowed_hosts, is_allowed
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local, normalized
from intertitle.pipeline.storage.web import (
    RefusedError,
    TooLargeError,
    WebClient,
    is_web,
    user_agent,
)

# Names of the tables of a Hugging Face folder.
METADATA = tuple(f"metadata{ending}" for ending in (".csv", ".jsonl", ".parquet"))


@dataclass(frozen=True, slots=True)
class Source:
    """A table, the folder that its files' names start from, and the split that its name says.

    Attributes:
        table: table to read.
        root: folder or URL of its files.
        prefix: beginning of the keys of its files, where tables have several folders.
        split: split that the name of the table or its folder says, or None.
    """

    table: Table
    root: UPath
    prefix: str
    split: str | None


def find_sources(
    sources: Sequence[AnyPath],
    encoding: str,
    header: tuple[str, ...] | None,
    root: str | None,
    folder: Path,
) -> list[Source]:
    """Find the tables that sources name.

    Args:
        sources: paths or URLs of the tables, or Hugging Face folders.
        encoding: encoding of text files.
        header: names of the columns of files without a header, or None.
        root: folder or URL that names of files start from; None for that of each table.
        folder: empty folder for copies of tables that are had by http.

    Raises:
        UserError: a table occurs twice or can't be downloaded, or a folder has none.
    """
    if not sources:
        raise UserError(f"import table: takes a FILE, got none; allowed: {' '.join(ENDINGS)}")
    paths: dict[str, UPath] = {}
    for source in map(as_path, sources):
        is_folder = not is_web(str(source)) and source.is_dir()
        for path in _metadata(source) if is_folder else [source]:
            path = as_path(normalized(path)) if is_local(path) else path
            if str(path) in paths:
                raise UserError(f"{path}: named twice, allowed: each table once")
            paths[str(path)] = path
    tables = [
        Table(path, _fetched(path, folder / str(n)), prefix, encoding, header)
        for n, (path, prefix) in enumerate(_prefixed(paths.values()))
    ]
    if all(table.path.name in METADATA for table in tables):
        splits = [split_in_name(table.path.parent.name) for table in tables]
    else:
        splits = splits_of_tables([table.name for table in tables])
    roots = [as_path(root or table.path.parent) for table in tables]
    return list(map(Source, tables, roots, _below_common(roots), splits))


def _fetched(path: UPath, folder: Path) -> AnyPath:
    """Return a file, or its copy in a new folder if it is had by http."""
    url = str(path)
    if not is_web(url):
        return path
    folder.mkdir()
    copy = folder / PurePosixPath(urlsplit(url).path).name
    is_allowed_url = partial(is_allowed, corpus=url, hosts=allowed_hosts())
    client = WebClient(is_allowed_url, user_agent())
    try:
        with copy.open("w+b") as file:
            client.fetch(url, file)
    except FileNotFoundError as error:
        raise UserError(f"{url}: missing: {error.strerror}") from error
    except (OSError, RefusedError, TooLargeError) as error:
        raise UserError(f"{url}: can't be fetched: {error}") from error
    return copy


def _below_common(folders: Sequence[UPath]) -> list[str]:
    """Return the paths of folders below the folder that all are in, each with a slash, or empty."""
    if len(set(folders)) == 1:
        return [""] * len(folders)
    try:
        common = posixpath.commonpath([str(folder) for folder in folders])
    except ValueError:
        # Folders of this machine and URLs.
        common = ""
    return [f"{str(folder).removeprefix(common).strip('/')}/".lstrip("/") for folder in folders]


def _prefixed(paths: Iterable[UPath]) -> Iterator[tuple[UPath, str]]:
    """Yield paths with their names, or with the paths where names occur twice."""
    listed = list(paths)
    names = [path.name for path in listed]
    for path in listed:
        yield path, path.name if names.count(path.name) == 1 else str(path)


def _metadata(folder: UPath) -> list[UPath]:
    """Return the tables of a Hugging Face folder.

    Raises:
        UserError: there are none.
    """
    places = [folder, *sorted((p for p in folder.iterdir() if p.is_dir()), key=str)]
    tables = [place / name for place in places for name in METADATA if (place / name).is_file()]
    if not tables:
        names = sorted(p.name for p in folder.iterdir() if p.suffix in ENDINGS)
        advice = f"; its tables can be named: {', '.join(names[:10])}" if names else ""
        raise UserError(f"{folder}: has no {', '.join(METADATA)}{advice}")
    return tables
