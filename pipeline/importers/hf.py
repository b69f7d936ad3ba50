"""Import data sets of the Hugging Face `datasets` library (extra `hf`).

FOLDER           as `save_to_disk` writes it, or with Parquet files, at any depth
FILE.parquet     one file
NAME             a data set of the hub, where the network has it

Images and videos that a data set contains are written to `files/` in the corpus, named by their
content, so that one that several rows have is one item. Columns are read as those of a table
(`table.columns`); the names of class labels replace their numbers. Each split keeps its name. A
picture that several splits have stays in all of them; a note counts such pictures. Files that rows
name have to be below the source or in the cache of the library.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from upath import UPath

from intertitle.pipeline.corpus import Item, Kind
from intertitle.pipeline.decoding.containers import ProbeError
from intertitle.pipeline.decoding.endings import VIDEO_SUFFIXES, ending_for
from intertitle.pipeline.errors import UserError, one_line
from intertitle.pipeline.importers.declaration import (
    COLUMN,
    SPLIT_DRAW,
    Importer,
    Option,
    Sources,
)
from intertitle.pipeline.importers.parsing import split_named
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.importers.table.cells import text_of
from intertitle.pipeline.importers.table.collector import Collector
from intertitle.pipeline.importers.table.columns import choose_columns, parse_roles
from intertitle.pipeline.importers.table.item_files import ItemFiles
from intertitle.pipeline.importers.table.readers import Row, flattened
from intertitle.pipeline.importers.table.splits import SplitRule, split_in_name
from intertitle.pipeline.importers.walk import has_suffix
from intertitle.pipeline.storage.paths import AnyPath, as_path, atomic_write, is_local

_FILES = "files"
_HEAD_BYTES = 400


def import_hf(
    source: AnyPath,
    out: AnyPath,
    *,
    config: str | None = None,
    column: Sequence[str] = (),
    val_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
) -> ImportReport:
    """Write a corpus of a data set, and the files that it contains.

    An example's id is the key of its item or, if it has a source or no item, `<split>:<row>`.

    Args:
        source: folder, file or name of the data set.
        out: path or URL of the corpus.
        config: name of the configuration, for a data set of the hub that has several.
        column: columns by their role, `ROLE=NAME`.
        val_share, test_share: shares of the items in splits that are drawn because the data set has
            none, from 0 to 1.
        seed: seed of drawn splits.

    Raises:
        UserError: `datasets` is not installed, there is no such data set, it can't be read, or its
            columns fit no task.
    """
    library = _library()
    parts = _load(library, as_path(source), config)
    roles = parse_roles(column)
    collector = Collector(SplitRule(val_share, test_share, seed), shares_files=True)
    root = source if source.is_dir() else source.parent
    folders = [*([Path(str(root))] if source.exists() else []), *_caches(library)]
    files = _EmbeddedFiles(as_path(out), ItemFiles(root, "", None, folders))
    notes: dict[str, None] = {}
    for name, part in parts.items():
        split = None if name is None else split_named(name) or name
        media, features = _media(library, part.features), part.features
        names = _names(library, features)
        chosen = {"file": next(iter(media)), **roles} if media else roles
        columns = choose_columns(names, chosen, f"{source}{f': {name}' if name else ''}")
        notes[columns.describe(names)] = None
        kind = media.get(columns.file or "")
        for row in _rows(part, media, library, f"{source}: {name or 'data'}", name or "row"):
            collector.add(row, columns, files.finder(kind), split)
    return collector.write(out, str(source), list(notes))


@dataclass(frozen=True, slots=True)
class _EmbeddedFiles:
    """Writes files that rows contain, and finds those that rows name.

    Attributes:
        corpus: folder or URL of the corpus.
        named: finder of files by their names.
    """

    corpus: UPath
    named: ItemFiles

    def finder(self, kind: Kind | None) -> Callable[[Any, str], tuple[str, Item | None]]:
        """Return a function that returns the key of the file in a cell, and its item."""

        def find(value: Any, where: str) -> tuple[str, Item | None]:
            if not isinstance(value, dict):
                return self.named.find(text_of(value, where), where)
            if value.get("bytes"):
                return self._write(value["bytes"], value.get("path") or "", kind)
            path = value.get("path") or ""
            if not path or not Path(path).is_file():
                return path or where, None
            return self.named.find(path, where)

        return find

    def _write(self, content: bytes, path: str, kind: Kind | None) -> tuple[str, Item]:
        try:
            ending = ending_for(content[:_HEAD_BYTES])
        except ProbeError:
            # The decoder reports what is wrong with it.
            ending = PurePosixPath(path).suffix.lower()
        name = f"{_FILES}/{hashlib.sha256(content).hexdigest()[:32]}{ending}"
        if not (self.corpus / name).is_file():
            atomic_write(self.corpus / name, lambda file: file.write(content))
        if kind is None:
            kind = "video" if has_suffix(name, VIDEO_SUFFIXES) else "image"
        return name, Item(name, name, kind)


def _library() -> Any:
    try:
        return importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        raise UserError("import hf: needs datasets (pip install 'intertitle[hf]')") from error


def _caches(library: Any) -> list[Path]:
    """Return the folders in which the library keeps the files of data sets of the hub."""
    hub = importlib.import_module("huggingface_hub.constants")
    config = library.config
    return [Path(config.HF_DATASETS_CACHE), Path(hub.HF_HUB_CACHE)]


def _load(library: Any, source: UPath, config: str | None) -> dict[str | None, Any]:
    """Return the splits of a data set by their names; None for the only one without a name."""
    try:
        if not source.exists():
            parts = library.load_dataset(str(source), config, streaming=True)
        elif not is_local(source):
            raise UserError(f"import hf: {source}, allowed: a path of this machine, or a name")
        elif any((source / name).is_file() for name in ("dataset_dict.json", "state.json")):
            parts = library.load_from_disk(str(source))
        else:
            files = _parquet_files(source)
            parts = library.load_dataset("parquet", data_files=files, streaming=True)
            if list(files) == ["all"]:
                parts = parts["all"]
    except UserError:
        raise
    except Exception as error:
        # The library raises whatever its readers and its network do.
        raise UserError(
            f"{source}: no data set that can be read: {one_line(str(error))}"
        ) from error
    return dict(parts) if isinstance(parts, Mapping) else {None: parts}


def _parquet_files(source: Path) -> dict[str, list[str]]:
    """Return the Parquet files of a folder by their split; "all" if their names say none."""
    files = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    if not files:
        raise UserError(
            f"{source}: has neither dataset_dict.json nor state.json nor *.parquet; a folder with "
            "metadata.csv or .jsonl is read by `import table`"
        )
    by_split: dict[str, list[str]] = {}
    for file in files:
        split = split_in_name(file.stem) or split_in_name(file.parent.name) or "all"
        by_split.setdefault(split, []).append(str(file))
    if "all" in by_split and len(by_split) > 1:
        raise UserError(f"{by_split['all'][0]}: no split in its name, allowed: as train-*.parquet")
    return by_split


def _names(library: Any, features: Mapping[str, Any]) -> list[str]:
    """Return the names of columns, and those of the fields of objects."""
    names = []
    for name, feature in features.items():
        fields = feature.languages if isinstance(feature, library.Translation) else feature
        is_object = fields is not feature or isinstance(feature, dict)
        names += [name, *(f"{name}.{field}" for field in (fields if is_object else ()))]
    return names


def _media(library: Any, features: Mapping[str, Any]) -> dict[str, Kind]:
    """Return the columns that contain files, with their kinds."""
    kinds: dict[Any, Kind] = {library.Image: "image", library.Video: "video"}
    return {
        name: kinds[type(feature)] for name, feature in features.items() if type(feature) in kinds
    }


def _rows(
    part: Any, media: Mapping[str, Kind], library: Any, where: str, name: str
) -> Iterator[Row]:
    for column in media:
        part = part.cast_column(column, type(part.features[column])(decode=False))
    sounds = [c for c, feature in part.features.items() if isinstance(feature, library.Audio)]
    part = part.remove_columns(sounds) if sounds else part
    # The elements of a list may be labels, too.
    features = {c: getattr(feature, "feature", feature) for c, feature in part.features.items()}
    labels = {c: f for c, f in features.items() if isinstance(f, library.ClassLabel)}
    for number, values in enumerate(_read(part, where), start=1):
        cells = {c: _named(labels[c], v) if c in labels else v for c, v in values.items()}
        files = {c: cells.pop(c) for c in media}
        yield Row(f"{where}: row {number}", f"{name}:{number}", {**flattened(cells), **files})


def _read(part: Any, where: str) -> Iterator[dict[str, Any]]:
    rows = iter(part)
    while True:
        try:
            values = next(rows)
        except StopIteration:
            return
        except Exception as error:
            raise UserError(f"{where}: can't be read further: {one_line(str(error))}") from error
        yield values


def _named(label: Any, value: Any) -> Any:
    """Return the names of class labels; -1 stands for none."""
    if isinstance(value, list):
        return [_named(label, element) for element in value]
    return None if value is None or value < 0 else label.int2str(value)


IMPORTER = Importer(
    "hf",
    import_hf,
    Sources.ONE,
    "FOLDER|FILE|NAME",
    "data sets of the library datasets: save_to_disk, Parquet, the hub",
    options=(
        Option("config", "Configuration of a data set of the hub"),
        COLUMN,
        *SPLIT_DRAW,
    ),
    sentences=True,
)
