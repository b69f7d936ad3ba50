"""Import tars of samples without unpacking them, as img2dataset and video2dataset write them.

TAR... or FOLDER, at any depth
  000000012.jpg  000000012.txt  000000012.json    members of one name are a sample
  00000_stats.json                                next to a tar, optional: counts of the download

An item is the first video or image of a sample: a range of the tar's bytes. Its text is the member
`.txt`; the fields of `.json`, and `.cls`, are columns like those of a table (`table.columns`). A
sample of img2dataset with another status than "success" is left out.

What follows the first damage of a tar is left out; a note names the tar.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from upath import UPath

from intertitle.pipeline.corpus import Item, Kind, Member
from intertitle.pipeline.decoding.endings import ANIMATED_SUFFIXES, VIDEO_SUFFIXES
from intertitle.pipeline.errors import UserError, one_line
from intertitle.pipeline.importers.declaration import COLUMN, SPLIT_DRAW, Importer, Sources
from intertitle.pipeline.importers.kinds import is_animation
from intertitle.pipeline.importers.report import ImportReport
from intertitle.pipeline.importers.table.collector import Collector
from intertitle.pipeline.importers.table.columns import choose_columns, parse_roles
from intertitle.pipeline.importers.table.readers import Row, flattened
from intertitle.pipeline.importers.table.splits import SplitRule, split_in_name
from intertitle.pipeline.importers.walk import has_suffix, is_hidden
from intertitle.pipeline.storage.paths import AnyPath, as_path, is_local, normalized
from intertitle.pipeline.storage.web import is_web

# Column of a sample's item.
_ITEM = "member"
_TEXTS = ("txt", "cls", "json")
# Maximum size of a text or JSON member.
_MAX_TEXT_BYTES = 16 << 20
# Number of samples in which columns are looked for.
_NUM_PEEKED = 1000
_BLOCK_BYTES = 512


@dataclass(slots=True)
class _Sample:
    """Members of a tar that have one name.

    Attributes:
        items: videos and images by the number of dots in their endings.
        texts: contents of the other members that are read, by their endings.
    """

    items: dict[int, Item] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Tars:
    """Reader of tars, which counts what it leaves out.

    Attributes:
        notes: messages for the user.
        left_out: numbers of members and samples that were left out, by reason.
    """

    notes: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def rows(self, tar: AnyPath, prefix: str) -> Iterator[Row]:
        """Iterate over the samples of a tar that have an item.

        Raises:
            UserError: the tar is missing or compressed.
        """
        for name, sample in self._samples(tar, prefix).items():
            where = f"{tar}: {name}"
            cells = self._cells(sample, where)
            # Other data sets may have a field `status` of their own.
            is_download = "status" in cells and "error_message" in cells
            if is_download and cells["status"] != "success":
                self.left_out["not downloaded"] += 1
            elif not sample.items:
                self.left_out["samples without a file"] += 1
            else:
                first, *more = (sample.items[dots] for dots in sorted(sample.items))
                self.left_out["further files of a sample"] += len(more)
                yield Row(where, f"{prefix}{name}", {**cells, _ITEM: first})

    def _samples(self, tar: AnyPath, prefix: str) -> dict[str, _Sample]:
        samples: dict[str, _Sample] = {}
        last = "the beginning"
        try:
            with tar.open("rb") as stream:
                if stream.read(2) == b"\x1f\x8b":
                    raise UserError(f"{tar}: is compressed, allowed: a tar without compression")
                stream.seek(0)
                with tarfile.open(fileobj=stream, mode="r:") as archive:
                    for info in archive:
                        self._add(samples, archive, info, tar, prefix)
                        last = info.name
                    _check_end(stream, archive.offset)
        except FileNotFoundError as error:
            raise UserError(f"{tar}: missing") from error
        except tarfile.TarError as error:
            self.left_out["damaged tars"] += 1
            self.notes.append(f"{tar}: damaged after {one_line(last)}: {error}; the rest left out")
        except (OSError, ValueError) as error:
            raise UserError(f"{tar}: can't be read: {one_line(str(error))}") from error
        return samples

    def _add(
        self,
        samples: dict[str, _Sample],
        archive: tarfile.TarFile,
        info: tarfile.TarInfo,
        tar: AnyPath,
        prefix: str,
    ) -> None:
        """Add a member to its sample."""
        path = PurePosixPath(info.name)
        stem, _, ending = path.name.partition(".")
        if info.isdir() or is_hidden(info.name):
            return
        is_item = has_suffix(path.name)
        if not info.isreg() or info.issparse() or not (is_item or ending in _TEXTS):
            self.left_out["other members"] += 1
            return
        sample = samples.setdefault(str(path.with_name(stem)), _Sample())
        if not is_item:
            if ending in sample.texts or info.size > _MAX_TEXT_BYTES:
                self.left_out["repeated or too large members"] += 1
                return
            sample.texts[ending] = cast(BinaryIO, archive.extractfile(info)).read()
        elif ending.count(".") in sample.items:
            self.left_out["further files of a sample"] += 1
        else:
            uri = Member(str(tar), info.offset_data, info.size).to_uri()
            item = Item(f"{prefix}{info.name}", uri, _kind(archive, info))
            sample.items[ending.count(".")] = item

    def _cells(self, sample: _Sample, where: str) -> dict[str, Any]:
        cells: dict[str, Any] = {}
        for ending, content in sample.texts.items():
            try:
                text = content.decode("utf-8-sig")
                if ending != "json":
                    cells[ending] = text
                elif isinstance(values := json.loads(text), dict):
                    cells = {**flattened(values), **cells}
                else:
                    raise ValueError("not an object")
            except (ValueError, RecursionError) as error:
                self.left_out["damaged texts"] += 1
                self.notes.append(f"{where}.{ending}: can't be read: {error}")
        return cells


def import_webdataset(
    sources: Sequence[AnyPath],
    out: AnyPath,
    *,
    column: Sequence[str] = (),
    val_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
) -> ImportReport:
    """Write a corpus of the samples of tars.

    An item's key is `<tar without ending>/<member>`. The split is that in the name of a tar or of
    its folder; otherwise splits are drawn by item.

    Args:
        sources: paths or URLs of tars, or folders with tars at any depth.
        out: path or URL of the corpus.
        column: columns by their role, `ROLE=NAME`, of the fields of `.json`, `txt` and `cls`.
        val_share, test_share: shares of the items in drawn splits, from 0 to 1.
        seed: seed of drawn splits.

    Raises:
        UserError: there are no tars, one is missing or compressed, or there are no samples.
    """
    tars = _listed(sources)
    reader, roles = _Tars(), parse_roles(column)
    collector = Collector(SplitRule(val_share, test_share, seed))
    splits = [split_in_name(tar.stem) or split_in_name(tar.parent.name) for tar in tars]
    if not set(splits) - {None, "train"}:
        splits = [None] * len(tars)

    def rows() -> Iterator[tuple[Row, str | None]]:
        for tar, name, split in zip(tars, _names(tars), splits, strict=True):
            for row in reader.rows(tar, f"{name}/"):
                yield row, split

    remaining = rows()
    head = list(islice(remaining, _NUM_PEEKED))
    names = list(dict.fromkeys(name for row, _ in head for name in row.cells))
    if head:
        columns = choose_columns(names, {**roles, "file": _ITEM}, str(tars[0]))
        for row, split in chain(head, remaining):
            collector.add(row, columns, lambda item, _: (item.key, item), split)
        reader.notes.insert(0, columns.describe(names))
    notes = [*_downloads(tars), *reader.notes]
    notes += [f"{number} {reason} left out" for reason, number in reader.left_out.items() if number]
    if not head:
        raise UserError(f"{tars[0]}: has no sample with a video or image: {'; '.join(notes)}")
    return collector.write(out, str(tars[0]), notes, dict(+reader.left_out))


def _listed(sources: Sequence[AnyPath]) -> list[UPath]:
    tars: dict[str, UPath] = {}
    for source in map(as_path, sources):
        path = as_path(normalized(source)) if is_local(source) else source
        listed = (
            sorted(path.rglob("*.tar"), key=str)
            if not is_web(str(path)) and path.is_dir()
            else [path]
        )
        if not listed:
            raise UserError(f"{source}: has no *.tar")
        for tar in listed:
            if str(tar) in tars:
                raise UserError(f"{tar}: named twice, allowed: each tar once")
            tars[str(tar)] = tar
    if not tars:
        raise UserError("import webdataset: takes a TAR, got none")
    return list(tars.values())


def _names(tars: Sequence[UPath]) -> list[str]:
    """Return the names of tars without their endings, with their folders where names are equal."""
    stems = [tar.stem for tar in tars]
    if len(set(stems)) == len(stems):
        return stems
    with_folders = [f"{tar.parent.name}/{tar.stem}" for tar in tars]
    if len(set(with_folders)) == len(with_folders):
        return with_folders
    return [str(tar) for tar in tars]


def _kind(archive: tarfile.TarFile, info: tarfile.TarInfo) -> Kind:
    if has_suffix(info.name, VIDEO_SUFFIXES):
        return "video"
    if not has_suffix(info.name, ANIMATED_SUFFIXES):
        return "image"
    return "video" if is_animation(cast(BinaryIO, archive.extractfile(info))) else "image"


def _check_end(stream: BinaryIO, offset: int) -> None:
    """Check that a tar ends where its members end.

    Python's tarfile takes a damaged header for the end.

    Raises:
        tarfile.ReadError: something else is there.
    """
    stream.seek(offset)
    block = stream.read(_BLOCK_BYTES)
    if len(block) < _BLOCK_BYTES:
        raise tarfile.ReadError("no end mark, as if it was cut off")
    if block.strip(b"\0"):
        raise tarfile.ReadError("bad header")


def _downloads(tars: Sequence[UPath]) -> list[str]:
    """Describe how much img2dataset or video2dataset could not download, by their statistics."""
    num_urls = num_downloaded = 0
    for tar in tars:
        file = tar.with_name(f"{tar.stem}_stats.json")
        if not (is_local(file) and file.is_file()):
            continue
        try:
            stats = json.loads(file.read_text("utf-8"))
            num_urls += int(stats["count"])
            num_downloaded += int(stats["successes"])
        except (ValueError, KeyError, TypeError):
            return [f"{file}: no statistics that can be read"]
    if num_urls == num_downloaded:
        return []
    return [f"{num_urls - num_downloaded:,} of {num_urls:,} URLs were not downloaded (_stats.json)"]


IMPORTER = Importer(
    "webdataset",
    import_webdataset,
    Sources.MANY,
    "TAR...|FOLDER",
    "tars of img2dataset, video2dataset and others, not unpacked",
    options=(COLUMN, *SPLIT_DRAW),
    sentences=True,
    urls=True,
)
