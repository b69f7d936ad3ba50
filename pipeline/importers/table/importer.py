"""Import tables: CSV, TSV, JSON lines or Parquet, by path or URL.

FILE...                                    one or more tables
FOLDER/metadata.csv, .jsonl or .parquet    a Hugging Face folder; also in its folders train/, test/

The columns are found by the names that people use (`columns.NAMES`), or named by `--column`:

  a file and captions        an item with references; several rows of a file are several references
  a file, question, answer   an example for each question about a file
  a file and a label         or a list of labels, one for each frame
  source and target          a sentence and its translation
  text and label             a text to classify
  text                       running text

With a start and an end, an item is a segment of a video.
"""

from __future__ import annotations

import codecs
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from upath import UPath

from intertitle.pipeline.corpus import Item, Kind, parse_member
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.declaration import (
    COLUMN,
    SPLIT_DRAW,
    Importer,
    Option,
    Sources,
)
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.importers.table.cells import text_of
from intertitle.pipeline.importers.table.collector import Collector, FindItem
from intertitle.pipeline.importers.table.columns import choose_columns, parse_roles
from intertitle.pipeline.importers.table.item_files import ItemFiles
from intertitle.pipeline.importers.table.sources import METADATA, Source, find_sources
from intertitle.pipeline.importers.table.splits import SplitRule, split_in_name
from intertitle.pipeline.storage.allowed_hosts import host_of
from intertitle.pipeline.storage.paths import AnyPath, is_local, is_url

_KINDS = ("image", "video")
# Number of hosts that a note lists.
_NUM_HOSTS = 10


def import_table(
    sources: Sequence[AnyPath],
    out: AnyPath,
    *,
    column: Sequence[str] = (),
    header: str | None = None,
    root: str | None = None,
    kind: str | None = None,
    encoding: str = "utf-8",
    no_files: bool = False,
    val_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
) -> ImportReport:
    """Write a corpus of the rows of tables.

    The key of an item is its file's name as in the table, with `#<start>-<end>` for a segment. An
    example's id is the key of its item or, if it has a source or no item, `<table>:<line>`.

    Without a column of splits, the split is that in the name of the table (`train.csv`) or, of a
    Hugging Face folder, of a folder. Rows without a split are in train if others have one; if none
    has, splits are drawn by file.

    Args:
        sources: paths or URLs of the tables, or a Hugging Face folder.
        out: path or URL of the corpus.
        column: columns by their role, `ROLE=NAME` (see `columns.NAMES`).
        header: names of the columns, separated by commas, of CSV and TSV files without a header.
        root: folder or URL that names of files start from; by default that of the table.
        kind: kind of files that have no known suffix, "image" or "video".
        encoding: encoding of text files.
        no_files: whether items have no files, but features that another program computed; what a
            row names is then a key.
        val_share, test_share: shares of the files in drawn splits, from 0 to 1.
        seed: seed of drawn splits.

    Raises:
        UserError: a table is missing, can't be read or occurs twice, a column is missing, a row is
            invalid, tables are of several tasks, or all files are missing.
    """
    if kind is not None and kind not in _KINDS:
        raise UserError(f"--kind: {kind!r}, allowed: {' or '.join(_KINDS)}")
    own_header = tuple(name.strip() for name in header.split(",")) if header is not None else None
    with tempfile.TemporaryDirectory(prefix="intertitle-") as folder:
        tables = find_sources(sources, _encoding(encoding), own_header, root, Path(folder))
        rule = SplitRule(val_share, test_share, seed)
        return _import(tables, out, parse_roles(column), kind, rule, no_files)


def _import(
    tables: Sequence[Source],
    out: AnyPath,
    roles: Mapping[str, str],
    kind: str | None,
    rule: SplitRule,
    no_files: bool,
) -> ImportReport:
    collector = Collector(rule)
    notes: dict[str, None] = {}
    tasks: dict[str, AnyPath] = {}
    hosts: dict[str, None] = {}
    for source in tables:
        names = source.table.columns()
        columns = choose_columns(names, roles, str(source.table.path))
        tasks.setdefault(columns.task, source.table.path)
        if len(tasks) > 1:
            listed = ", ".join(f"{path}: {task}" for task, path in tasks.items())
            raise UserError(f"{listed}; allowed: tables of one task")
        notes[f"{source.table.name}: {columns.describe(names)}"] = None
        file_kind = _kind(kind, columns.file)
        files = ItemFiles(source.root, source.prefix, file_kind, must_exist=not no_files)
        find = _finder(files, hosts)
        for row in source.table.rows():
            split = source.split
            if split is None and source.table.path.name in METADATA:
                split = _split_of_folder(row.cells.get(columns.file or ""))
            collector.add(row, columns, find, split)
    if hosts:
        more = f" and {len(hosts) - _NUM_HOSTS} more" if len(hosts) > _NUM_HOSTS else ""
        allow = " ".join(f"--allow-host {host}" for host in list(hosts)[:_NUM_HOSTS])
        notes[f"files by URL are fetched by `intertitle precompute` with {allow}{more}"] = None
    where = str(tables[0].table.path)
    return collector.write(out, where, list(notes), advice=partial(_advice, tables[0].root))


def _advice(root: UPath, name: str) -> str:
    """Return what to do where no file is there, with a folder that has the first."""
    folders = sorted(p for p in root.iterdir() if (p / name).is_file()) if is_local(root) else []
    named = f"--root {folders[0] if folders else 'FOLDER'} names another"
    return f"; looked in {root}: {named}, --no-files imports items for `import-features`"


def _split_of_folder(file: object) -> str | None:
    """Return the split that the folders of a file's name say, or None."""
    if not isinstance(file, str):
        return None
    splits = [split_in_name(part) for part in PurePosixPath(file).parts[:-1]]
    return next((split for split in splits if split), None)


def _finder(files: ItemFiles, hosts: dict[str, None]) -> FindItem:
    """Return a function that finds the file in a cell, and notes the hosts of URLs."""

    def find(value: object, where: str) -> tuple[str, Item | None]:
        if isinstance(value, dict):
            raise UserError(f"{where}: holds the file itself, which `import hf` reads")
        key, item = files.find(text_of(value, where), where)
        if item is not None:
            member = parse_member(item.uri)
            uri = member.uri if member else item.uri
            if is_url(uri):
                hosts[host_of(uri)] = None
        return key, item

    return find


def _kind(kind: str | None, column: str | None) -> Kind | None:
    """Return the kind of files without a known suffix: as given, or as the column's name says."""
    if kind is None and column is not None:
        kind = next((k for k in _KINDS if k in column.lower()), None)
    return cast(Kind | None, kind)


def _encoding(name: str) -> str:
    try:
        ends_lines = "a\n".encode(name) == b"a\n"
        known = codecs.lookup(name).name
    except (LookupError, UnicodeEncodeError) as error:
        raise UserError(f"--encoding: {name!r}, allowed: such as utf-8 or latin-1") from error
    if known == "utf-8-sig":
        return "utf-8"
    if not ends_lines:
        raise UserError(f"--encoding: {name!r}, allowed: one that extends ASCII, such as utf-8")
    return known


IMPORTER = Importer(
    "table",
    import_table,
    Sources.MANY,
    "FILE...|FOLDER",
    "your own: CSV, TSV, JSON lines, Parquet; or a folder with metadata.csv",
    options=(
        COLUMN,
        Option("header", "Names of the columns of a file without a header", str, "NAME,..."),
        Option("root", "Folder or URL of the files that are named; default: the table's folder"),
        Option("kind", "Kind of files whose names do not say it: image or video"),
        Option("encoding", "Encoding of text files, such as latin-1; default: utf-8"),
        Option(
            "no_files", "Import items without files, whose features `import-features` adds", bool
        ),
        *SPLIT_DRAW,
    ),
    sentences=True,
    urls=True,
)
