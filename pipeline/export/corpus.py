"""Write a corpus as CSV, Parquet or COCO's JSON, or with its files as folders or tars."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from intertitle.pipeline.corpus import Corpus, Example, Item, absolute_uri
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.export.output import Exported, check_new, file_names, item_file
from intertitle.pipeline.export.rows import Columns, coco_numbers, columns_of, iter_examples
from intertitle.pipeline.storage.paths import as_path, atomic_folder, atomic_write

# Number of items of a tar.
TAR_ITEMS = 1000


def export_corpus(corpus: Corpus, format: str, out: Path) -> Exported:
    """Write a corpus in another format.

    Args:
        corpus: corpus to export.
        format: one of CORPUS_FORMATS.
        out: new file for "csv", new folder for the others.

    Raises:
        UserError: the format is not known, the corpus does not fit it, `out` exists, two splits
            would have one file, or no item has a file that can be read.
    """
    write = CORPUS_FORMATS.get(format)
    if write is None:
        raise UserError(f"--to {format}: allowed for a corpus: {', '.join(CORPUS_FORMATS)}")
    check_new(out)
    if not corpus.counts():
        raise UserError(f"{corpus.path}: no examples to export")
    return write(corpus, out)


def _place(corpus: Corpus, item: Item | None) -> dict[str, Any]:
    if item is None:
        return {}
    values: dict[str, Any] = {"file_name": absolute_uri(corpus.path, item)}
    if item.start_s is not None or item.end_s is not None:
        values |= {"start": item.start_s, "end": item.end_s}
    return values


def _texts(columns: Columns, example: Example, target: object) -> dict[str, Any]:
    source = {} if columns.source is None else {columns.source: example.source}
    return {**source, columns.target: target}


def _write_csv(corpus: Corpus, out: Path) -> Exported:
    """Write a row for each reference."""
    columns, exported = columns_of(corpus), Exported()
    texts = [name for name in (columns.source, columns.target) if name]
    names = ["file_name", "start", "end", *texts, "split"]
    rows = []
    for example, item in iter_examples(corpus):
        for target in example.targets:
            place = _place(corpus, item)
            rows.append({**place, **_texts(columns, example, target), "split": example.split})
    used = [name for name in names if any(row.get(name) is not None for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, used, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(as_path(out), lambda file: file.write(text.getvalue().encode()))
    exported.rows = len(rows)
    return exported


def _write_parquet(corpus: Corpus, out: Path) -> Exported:
    """Write a table for each split, with a row for each example."""
    columns, exported = columns_of(corpus), Exported()
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for example, item in iter_examples(corpus):
        base = {"id": example.id, "key": example.item_key, "start": None, "end": None}
        texts = _texts(columns, example, list(example.targets))
        rows[example.split].append({**base, **_place(corpus, item), **texts})
        exported.rows += 1
    names = file_names(list(rows))
    with atomic_folder(out) as folder:
        for split, values in rows.items():
            schema = pa.schema(
                [
                    *((name, pa.string()) for name in ("id", "key", "file_name")),
                    *((name, pa.float64()) for name in ("start", "end")),
                    *([(columns.source, pa.string())] if columns.source else []),
                    (columns.target, pa.list_(pa.string())),
                ]
            )
            table = pa.Table.from_pylist(values, schema)
            pq.write_table(table, folder / f"{names[split]}.parquet")
    return exported


def _write_coco(corpus: Corpus, out: Path) -> Exported:
    """Write captions_SPLIT.json for each split; image numbers are those of `coco_numbers`."""
    if columns_of(corpus).target != "caption":
        raise UserError(f"{corpus.path}: questions or texts, allowed for coco: captions of items")
    exported = Exported()
    numbers = coco_numbers(corpus.item_table()["key"].to_pylist())
    images: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    annotations: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for example, item in iter_examples(corpus):
        if item is None:
            continue
        number = numbers[item.key]
        images[example.split][number] = {"id": number, "file_name": item.key}
        for caption in example.targets:
            exported.rows += 1
            annotations[example.split].append(
                {"id": exported.rows, "image_id": number, "caption": caption}
            )
    names = file_names(list(annotations))
    with atomic_folder(out) as folder:
        for split, values in annotations.items():
            document = {
                "info": {"description": f"{corpus.path.name} {split}"},
                "licenses": [],
                "type": "captions",
                "images": list(images[split].values()),
                "annotations": values,
            }
            file = folder / f"captions_{names[split]}.json"
            file.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    return exported


def _write_hf(corpus: Corpus, out: Path) -> Exported:
    """Write a folder for each split, with metadata.jsonl and copies of the items' files."""
    columns, exported, splits = columns_of(corpus), Exported(), _by_split(corpus)
    names = file_names(list(splits))
    with atomic_folder(out) as folder:
        for split, entries in splits.items():
            part = folder / names[split]
            part.mkdir()
            lines = []
            for number, (item, examples) in enumerate(entries):
                place: dict[str, Any] = {}
                if item is not None:
                    with item_file(corpus, item, exported) as opened:
                        if opened is None:
                            continue
                        path, ending = opened
                        name = f"{number:08d}{ending}"
                        shutil.copyfile(path, part / name)
                    place = {**_place(corpus, item), "file_name": name, "key": item.key}
                for example in examples:
                    texts = _texts(columns, example, list(example.targets))
                    lines.append(json.dumps({**place, **texts}, ensure_ascii=False))
            (part / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines), "utf-8")
            exported.rows += len(lines)
        exported.check_not_empty()
    return exported


def _write_webdataset(corpus: Corpus, out: Path) -> Exported:
    """Write tars of TAR_ITEMS items: the file, the first text, and JSON with all examples."""
    exported, splits = Exported(), _by_split(corpus)
    names = file_names(list(splits))
    with atomic_folder(out) as folder:
        for split, entries in splits.items():
            for start in range(0, len(entries), TAR_ITEMS):
                name = f"{names[split]}-{start // TAR_ITEMS:05d}.tar"
                with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
                    for number, (item, examples) in enumerate(entries[start : start + TAR_ITEMS]):
                        _add_item(tar, f"{start + number:08d}", corpus, item, examples, exported)
        exported.check_not_empty()
    return exported


def _add_item(
    tar: tarfile.TarFile,
    name: str,
    corpus: Corpus,
    item: Item | None,
    examples: list[Example],
    exported: Exported,
) -> None:
    place = _place(corpus, item)
    place.pop("file_name", None)
    described = [{"id": e.id, "source": e.source, "targets": list(e.targets)} for e in examples]
    document = {"key": item and item.key, **place, "examples": described}
    if item is not None:
        with item_file(corpus, item, exported) as opened:
            if opened is None:
                return
            path, ending = opened
            _add(tar, f"{name}{ending}", path.read_bytes())
    _add(tar, f"{name}.txt", examples[0].targets[0].encode())
    _add(tar, f"{name}.json", json.dumps(document, ensure_ascii=False).encode())
    exported.rows += 1


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # A new TarInfo has no owner and no time, so equal items give equal bytes.
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _by_split(corpus: Corpus) -> dict[str, list[tuple[Item | None, list[Example]]]]:
    """Group the examples of each split by item; examples without an item stay alone."""
    groups: dict[str, dict[str, tuple[Item | None, list[Example]]]] = defaultdict(dict)
    for example, item in iter_examples(corpus):
        name = f"example {example.id}" if item is None else f"item {item.key}"
        groups[example.split].setdefault(name, (item, []))[1].append(example)
    return {split: list(entries.values()) for split, entries in groups.items()}


CORPUS_FORMATS: dict[str, Callable[[Corpus, Path], Exported]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
    "coco": _write_coco,
    "hf": _write_hf,
    "webdataset": _write_webdataset,
}
