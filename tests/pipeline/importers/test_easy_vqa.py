"""easy-VQA becomes a corpus straight from its package, or from one with the same functions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from intertitle.pipeline.corpus import Corpus, Example, Item
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.easy_vqa import import_easy_vqa


def test_images_of_both_splits_have_keys_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = str(tmp_path / "train" / "0.png"), str(tmp_path / "test" / "0.png")
    package = SimpleNamespace(
        get_train_questions=lambda: (["what shape?", "is it blue?", "why?"], ["circle", "no", "?"],
                                     [0, 0, 7]),
        get_test_questions=lambda: (["what shape?"], ["triangle"], [0]),
        get_train_image_paths=lambda: {0: train},
        get_test_image_paths=lambda: {0: test},
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "easy_vqa", package)
    report = import_easy_vqa(tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.items() == [
        Item("train/0.png", train, "image"),
        Item("test/0.png", test, "image"),
    ]
    assert corpus.examples() == [
        Example("train/0", "train", "train/0.png", "what shape?", ("circle",)),
        Example("train/1", "train", "train/0.png", "is it blue?", ("no",)),
        Example("test/0", "test", "test/0.png", "what shape?", ("triangle",)),
    ]
    assert report.missing == ("train/7.png",)
    assert report.notes == ("train: 2 examples", "test: 1 examples")


def test_the_last_tenth_of_the_train_images_is_val_with_all_their_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the package neither images nor questions are in the order of the images' ids.
    ids = [19, 3, 18, 0, 19, 5]
    rows = ([f"question {n}?" for n in range(6)], ["yes"] * 6, ids)
    package = SimpleNamespace(
        get_train_questions=lambda: rows,
        get_test_questions=lambda: rows,
        get_train_image_paths=lambda: {n: f"/train/{n}.png" for n in reversed(range(20))},
        get_test_image_paths=lambda: {n: f"/test/{n}.png" for n in range(20)},
    )
    monkeypatch.setitem(sys.modules, "easy_vqa", package)
    report = import_easy_vqa(tmp_path / "corpus")
    examples = Corpus(tmp_path / "corpus").examples()
    assert {e.id: e.item_key for e in examples if e.split == "val"} == {
        "train/0": "train/19.png",
        "train/2": "train/18.png",
        "train/4": "train/19.png",
    }
    assert [e.id for e in examples if e.split == "test"] == [f"test/{n}" for n in range(6)]
    assert report.notes[-1] == "val: the last tenth of the train images"


def test_the_package_as_published(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="needs the package easy-vqa")
    report = import_easy_vqa(tmp_path / "corpus")
    assert (report.items, report.examples, report.missing) == (5000, 38575 + 9673, ())
    assert report.notes == (
        "train: 34687 examples",
        "val: 3888 examples",
        "test: 9673 examples",
        "val: the last tenth of the train images",
    )


def test_without_the_package_one_is_told_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(UserError, match="pip install easy-vqa"):
        import_easy_vqa(tmp_path / "corpus")
