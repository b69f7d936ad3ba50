"""easy-VQA becomes a corpus straight from its package, or from one with the same functions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.corpus import Corpus, Example, Item
from pipeline.errors import UserError
from pipeline.importers.easy_vqa import import_easy_vqa


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


def test_the_package_as_published(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="needs the package easy-vqa")
    report = import_easy_vqa(tmp_path / "corpus")
    assert (report.items, report.examples, report.missing) == (5000, 38575 + 9673, ())
    assert report.notes == ("train: 38575 examples", "test: 9673 examples")


def test_without_the_package_one_is_told_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "easy_vqa", None)
    with pytest.raises(UserError, match="pip install easy-vqa"):
        import_easy_vqa(tmp_path / "corpus")
