"""COCO's captions, as published and in Karpathy's splits, become a corpus."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.corpus import Corpus, Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.coco import import_coco

DOG, CAT = "COCO_train2014_000000000009.jpg", "COCO_train2014_000000000025.jpg"
BUS = "COCO_val2014_000000000042.jpg"

INFO = {"description": "COCO 2014 Dataset", "version": "1.0", "year": 2014}


def image(id_: int, name: str) -> dict[str, Any]:
    folder = name.split("_")[1]
    return {
        "license": 3,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/{folder}/{name}",
        "height": 480,
        "width": 640,
        "date_captured": "2013-11-14 21:18:31",
        "flickr_url": "http://farm9.staticflickr.com/8382/8465850375_z.jpg",
        "id": id_,
    }


def captions(images: list[dict[str, Any]], *said: tuple[int, int, str]) -> dict[str, Any]:
    annotations = [{"image_id": i, "id": n, "caption": text} for n, i, text in said]
    licenses = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "BY"}]
    return {"info": INFO, "images": images, "licenses": licenses, "annotations": annotations}


# Annotations stand in the order of their writing, not by image; one caption is empty.
TRAIN = captions(
    [image(9, DOG), image(25, CAT)],
    (48, 25, "A cat sleeps."),
    (126, 9, "A dog runs.\n"),
    (219, 9, ""),
    (255, 9, "The dog."),
)
VAL = captions([image(42, BUS)], (60, 42, "A bus."))
PUBLISHED: dict[str, object] = {
    "annotations/captions_train2014.json": TRAIN,
    "annotations/captions_val2014.json": VAL,
    "annotations/instances_val2014.json": {},
    f"train2014/{DOG}": None,
    f"train2014/{CAT}": None,
    f"val2014/{BUS}": None,
}

KARPATHY: dict[str, Any] = {
    "images": [
        {
            "filepath": name.split("_")[1],
            "sentids": [n],
            "filename": name,
            "imgid": n,
            "split": split,
            "sentences": [{"tokens": ["a", "dog"], "raw": "A dog.", "imgid": n, "sentid": n}],
            "cocoid": n,
        }
        for n, (name, split) in enumerate([(BUS, "restval"), (DOG, "test"), (CAT, "val")])
    ],
    "dataset": "coco",
}


def test_photographs_captions_and_splits_are_taken_over(lay_out, tmp_path: Path) -> None:
    source = lay_out(PUBLISHED)
    report = import_coco(source, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.items() == [
        Item(name, str(source / name.split("_")[1] / name), "image") for name in (DOG, CAT, BUS)
    ]
    assert [(e.id, e.split, e.item_key, e.targets) for e in corpus.examples()] == [
        (DOG, "train", DOG, ("A dog runs.", "The dog.")),
        (CAT, "train", CAT, ("A cat sleeps.",)),
        (BUS, "val", BUS, ("A bus.",)),
    ]
    assert (report.items, report.examples, report.references) == (3, 3, 4)
    assert "1 empty captions left out" in report.notes


def test_one_of_the_files_can_be_named_and_the_images_of_2017_are_found(
    lay_out, tmp_path: Path
) -> None:
    name = "000000000042.jpg"
    data = captions([{**image(42, BUS), "file_name": name}], (1, 42, "A bus."))
    source = lay_out(
        {**PUBLISHED, "annotations/captions_val2017.json": data, f"images/val2017/{name}": None}
    )
    with pytest.raises(UserError, match="captions of 2014 and 2017 are of the same photographs"):
        import_coco(source, tmp_path / "corpus")
    import_coco(source, tmp_path / "corpus", [source / "annotations/captions_val2017.json"])
    corpus = Corpus(tmp_path / "corpus")
    assert [item.uri for item in corpus.items()] == [str(source / "images/val2017" / name)]
    assert [(e.id, e.split) for e in corpus.examples()] == [(name, "val")]


def test_an_absent_photograph_is_reported(lay_out, tmp_path: Path) -> None:
    source = lay_out(PUBLISHED)
    (source / "train2014" / CAT).unlink()
    report = import_coco(source, tmp_path / "corpus")
    assert report.missing == (CAT,)
    assert (report.items, report.examples) == (2, 2)


def test_karpathys_splits_are_taken_over_with_restval_as_train(lay_out, tmp_path: Path) -> None:
    source = lay_out({**PUBLISHED, "dataset_coco.json": KARPATHY})
    report = import_coco(source, tmp_path / "corpus", [source / "dataset_coco.json"])
    corpus = Corpus(tmp_path / "corpus")
    assert [item.uri for item in corpus.items()] == [
        str(source / name.split("_")[1] / name) for name in (BUS, DOG, CAT)
    ]
    assert [(e.id, e.split, e.targets) for e in corpus.examples()] == [
        (BUS, "train", ("A dog.",)),
        (DOG, "test", ("A dog.",)),
        (CAT, "val", ("A dog.",)),
    ]
    assert "train: takes in the 1 photographs of restval, as is usual" in report.notes


def changed(data: dict[str, Any], path: list[Any], value: object) -> dict[str, Any]:
    data = copy.deepcopy(data)
    at: Any = data
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["annotations", 1, "image_id"], 7, r"annotations\[1\]\.image_id: 7 is not in images"),
        (["annotations", 2, "id"], 48, r"annotations\[2\]\.id: 48 is taken by .*annotations\[0\]"),
        (["annotations", 0, "caption"], None, r"annotations\[0\]\.caption: None, expected text"),
        (["annotations", 0, "caption"], " ", rf"images\[1\]: '{CAT}' has no caption"),
        (["images", 1, "id"], 9, r"images\[1\]\.id: 9 is taken by .*images\[0\]; ids are unique"),
        (["images", 1, "file_name"], DOG, rf"images\[1\]: '{DOG}' is taken by .*images\[0\]"),
        (["images", 1], {"id": 25}, r"images\[1\]\.file_name: missing"),
        (["images", 0, "file_name"], "../a.jpg", r"images\[0\]\.file_name: '\.\./a\.jpg'"),
        (["images"], {}, "images: {}, expected a list"),
    ],
)
def test_what_is_wrong_with_the_captions_is_named(
    path: list[Any], value: object, message: str, lay_out, tmp_path: Path
) -> None:
    file = "annotations/captions_train2014.json"
    source = lay_out({**PUBLISHED, file: changed(TRAIN, path, value)})
    with pytest.raises(UserError, match=rf"captions_train2014\.json: {message}"):
        import_coco(source, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["split"], "dev", r"images\[0\]\.split: 'dev', allowed: train, restval, val, test"),
        (["imgid"], 1, r"images\[1\]\.imgid: 1 is taken by .*images\[0\]"),
        (["sentences"], [], rf"images\[0\]: '{BUS}' has no caption"),
        (["sentences", 0], {}, r"images\[0\]\.sentences\[0\]\.raw: missing"),
    ],
)
def test_what_is_wrong_with_karpathys_file_is_named(
    path: list[Any], value: object, message: str, lay_out, tmp_path: Path
) -> None:
    file = "dataset_coco.json"
    source = lay_out({**PUBLISHED, file: changed(KARPATHY, ["images", 0, *path], value)})
    with pytest.raises(UserError, match=rf"dataset_coco\.json: {message}"):
        import_coco(source, tmp_path / "corpus", [source / file])


def test_a_source_without_captions_is_refused(lay_out, tmp_path: Path) -> None:
    source = lay_out({"others.json": TRAIN})
    with pytest.raises(UserError, match="published: has no annotations/captions_"):
        import_coco(source, tmp_path / "corpus")
    with pytest.raises(UserError, match=r"others\.json: expected a name like captions_train2014"):
        import_coco(source, tmp_path / "corpus", [source / "others.json"])
