"""Exported corpora and features, read back by the programs that they are for."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tarfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image
from pycocotools.coco import COCO

from intertitle.pipeline.corpus import Corpus, Example, Item, write_corpus
from intertitle.pipeline.decoding.item_file import ItemFile, open_item_file
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.export.corpus import CORPUS_FORMATS, export_corpus
from intertitle.pipeline.export.rows import coco_numbers
from intertitle.pipeline.export.store import export_store
from intertitle.pipeline.feature_store.external.run import ImportOptions, import_features
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.importers.table import import_table
from intertitle.pipeline.importers.webdataset import import_webdataset
from intertitle.pipeline.storage import allowed_hosts, web
from intertitle.pipeline.storage.paths import as_path

CAPTIONS = {"1.jpg": ("a cat", 'a "dog", too'), "7.jpg": ("ein Vögelchen",), "9.jpg": ("x",)}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("1.jpg", "7.jpg"):
        Image.new("RGB", (20, 10), "red").save(folder / name)
    items = [Item(name, name, "image") for name in CAPTIONS]
    examples = [
        Example(name, "val" if name == "7.jpg" else "train", name, None, texts)
        for name, texts in CAPTIONS.items()
    ]
    return write_corpus(folder, items, examples)


def test_csv_has_a_row_for_each_reference(corpus: Corpus, tmp_path: Path) -> None:
    assert export_corpus(corpus, "csv", tmp_path / "out.csv").rows == 4
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "file_name": str(corpus.path / "1.jpg"),
        "caption": 'a "dog", too',
        "split": "train",
    }
    assert [row["caption"] for row in rows] == [t for texts in CAPTIONS.values() for t in texts]


def test_parquet_has_a_row_for_each_example(corpus: Corpus, tmp_path: Path) -> None:
    export_corpus(corpus, "parquet", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert [row["key"] for row in table] == ["1.jpg", "9.jpg"]
    assert table[0]["caption"] == list(CAPTIONS["1.jpg"])


def test_coco_is_read_by_its_own_library(corpus: Corpus, tmp_path: Path) -> None:
    export_corpus(corpus, "coco", tmp_path / "out")
    coco = COCO(tmp_path / "out" / "captions_train.json")
    assert sorted(coco.getImgIds()) == [1, 9]
    captions = [annotation["caption"] for annotation in coco.imgToAnns[1]]
    assert captions == list(CAPTIONS["1.jpg"])


def test_a_folder_for_hugging_face_has_the_files(corpus: Corpus, tmp_path: Path) -> None:
    exported = export_corpus(corpus, "hf", tmp_path / "out")
    # The file of an item is gone.
    assert (exported.rows, exported.files, exported.missing) == (2, 2, ["9.jpg"])
    (line,) = (tmp_path / "out" / "train" / "metadata.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert (row["key"], row["caption"]) == ("1.jpg", list(CAPTIONS["1.jpg"]))
    copy = tmp_path / "out" / "train" / row["file_name"]
    assert copy.read_bytes() == (corpus.path / "1.jpg").read_bytes()


def test_tars_are_read_by_webdataset(corpus: Corpus, tmp_path: Path) -> None:
    exported = export_corpus(corpus, "webdataset", tmp_path / "out")
    assert (exported.rows, exported.missing) == (2, ["9.jpg"])
    tar = tmp_path / "out" / "val-00000.tar"
    (sample,) = webdataset.WebDataset(str(tar), shardshuffle=False)
    assert sample["jpg"] == (corpus.path / "7.jpg").read_bytes()
    assert sample["txt"].decode() == "ein Vögelchen"
    assert json.loads(sample["json"])["key"] == "7.jpg"
    export_corpus(corpus, "webdataset", tmp_path / "again")
    assert tar.read_bytes() == (tmp_path / "again" / "val-00000.tar").read_bytes()


@pytest.mark.parametrize("name", ["csv", "hf"])
def test_an_exported_corpus_is_imported_as_it_is(name: str, corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / f"out.{name}"
    export_corpus(corpus, name, out)
    import_table([as_path(out)], tmp_path / "again")
    examples = Corpus(tmp_path / "again").examples()
    expected = {("train", CAPTIONS["1.jpg"]), ("val", CAPTIONS["7.jpg"])}
    assert {(example.split, example.targets) for example in examples} == expected


@pytest.fixture
def members(tmp_path: Path) -> Corpus:
    """A corpus of pictures in a tar."""
    tar = tmp_path / "tars" / "a.tar"
    tar.parent.mkdir()
    with tarfile.open(tar, "w") as archive:
        for number, color in enumerate(("red", "blue")):
            picture = io.BytesIO()
            Image.new("RGB", (20, 10), color).save(picture, "PNG")
            for name, data in ((f"{number}.png", picture.getvalue()), (f"{number}.txt", b"a cat")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    import_webdataset([as_path(tar)], tmp_path / "corpus")
    return Corpus(tmp_path / "corpus")


def contents(corpus: Corpus) -> set[bytes]:
    read = set()
    for item in corpus.items():
        with open_item_file(ItemFile(item, str(corpus.path))) as (path, _):
            read.add(path.read_bytes())
    return read


@pytest.mark.parametrize("name", ["csv", "hf", "webdataset"])
def test_members_of_a_tar_are_exported_as_they_are(
    name: str, members: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / f"out.{name}"
    export_corpus(members, name, out)
    read = import_webdataset if name == "webdataset" else import_table
    read([as_path(out)], tmp_path / "again")
    again = Corpus(tmp_path / "again")
    assert contents(again) == contents(members) and len(contents(again)) == 2
    assert {item.kind for item in again.items()} == {"image"}
    assert name == "csv" or all(item.key.endswith(".png") for item in again.items())


def test_an_export_without_any_file_fails(tmp_path: Path) -> None:
    url = "https://photos.example.org/a.jpg"
    corpus = write_corpus(
        tmp_path / "c", [Item("a", url, "image")], [Example("a", "train", "a", None, ("a cat",))]
    )
    for name in ("hf", "webdataset"):
        with pytest.raises(UserError, match=r"none of the 1 items .*: https://photos.*allow-host"):
            export_corpus(corpus, name, tmp_path / name)
        assert not (tmp_path / name).exists()


def test_an_export_ends_where_a_server_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(allowed_hosts.VARIABLE, "https://127.0.0.1:9")
    monkeypatch.setattr(web, "MAX_PAUSE_S", 0.01)
    corpus = write_corpus(
        tmp_path / "c",
        [Item("a", "https://127.0.0.1:9/a.jpg", "image")],
        [Example("a", "train", "a", None, ("a cat",))],
    )
    with pytest.raises(UserError, match="a: can't be read now"):
        export_corpus(corpus, "hf", tmp_path / "out")


def test_splits_that_would_share_a_file_are_named(tmp_path: Path) -> None:
    examples = [Example(split, split, None, None, ("a cat",)) for split in ("a/b", "A b")]
    corpus = write_corpus(tmp_path / "c", [], examples)
    for name in ("parquet", "hf", "webdataset"):
        with pytest.raises(UserError, match="splits 'a/b' and 'A b': both would be written to"):
            export_corpus(corpus, name, tmp_path / name)


@pytest.mark.parametrize(
    ("source", "item_key", "names"),
    [
        ("How many?", "1", ["file_name", "question", "answer", "split"]),
        ("Guten Tag.", None, ["source", "target", "split"]),
        (None, None, ["text", "split"]),
    ],
)
def test_columns_have_the_names_of_the_task(
    source: str | None, item_key: str | None, names: list[str], tmp_path: Path
) -> None:
    items = [Item("1", "1.jpg", "image")]
    examples = [Example("e", "train", item_key, source, ("two",))]
    corpus = write_corpus(tmp_path / "corpus", items, examples)
    export_corpus(corpus, "csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[0].split(",") == names
    with pytest.raises(UserError, match="allowed for coco: captions"):
        export_corpus(corpus, "coco", tmp_path / "coco")


def test_features_survive_a_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = {key: rng.random((n, 2, 3), np.float32) for key, n in (("a", 2), ("b", 1), ("c", 5))}
    np.savez(tmp_path / "f.npz", **values)
    items = [Item(key, f"{key}.mp4", "video") for key in values]
    corpus = write_corpus(tmp_path / "corpus", items, [])
    options = ImportOptions("net", "grid")
    first = import_features(tmp_path / "f.npz", corpus, tmp_path / "store", options)
    store = FeatureStore(tmp_path / "store")
    # The first try fails after some rows were written.
    fail = OSError(errno.EIO, "of the test")
    with patch.object(os, "fsync", side_effect=[fail, None, None, None]):
        assert export_store(store, "parquet", tmp_path / "f.parquet").rows == 3
    second = import_features(tmp_path / "f.parquet", corpus, tmp_path / "copy", options)
    assert second.snapshot == first.snapshot
    assert export_store(store, "webdataset", tmp_path / "tars").rows == 3
    with tarfile.open(tmp_path / "tars" / "features-00000.tar") as tar:
        assert len(tar.getnames()) == 6
    with pytest.raises(UserError, match="--to csv: allowed for a store: parquet, webdataset"):
        export_store(store, "csv", tmp_path / "f.csv")


def test_an_existing_output_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    for format in CORPUS_FORMATS:
        with pytest.raises(UserError, match="exists, allowed: a new name"):
            export_corpus(corpus, format, tmp_path)


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (["COCO_val2014_000000391895.jpg", "000000000009.jpg", "12"], [391895, 9, 12]),
        (["train/5.jpg", "6.jpg"], [5, 6]),
        (["5.jpg", "a.jpg"], [1, 2]),
        (["5.jpg", "05.jpg"], [1, 2]),
    ],
)
def test_images_have_cocos_numbers_or_their_positions(names: list[str], numbers: list[int]) -> None:
    assert list(coco_numbers(names).values()) == numbers
