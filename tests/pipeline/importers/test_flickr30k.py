"""Flickr30k, as published and as Kaggle's table, becomes a corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.flickr30k import import_flickr30k

TOKENS = """\
1000092795.jpg#0\tTwo young guys with shaggy hair .
1000092795.jpg#1\tTwo young , White males are outside .
2199200615.jpg#4\tA dog runs across the grass .
"""
# As Kaggle has it: a header, spaces after the bars, and a line that lacks its second bar.
TABLE = """\
image_name| comment_number| comment
1000092795.jpg| 0| Two young guys with shaggy hair .
1000092795.jpg| 1| Two young , White males are outside .
2199200615.jpg| 4   A dog runs across the grass .
"""
PAIR = ("Two young guys with shaggy hair .", "Two young , White males are outside .")
DOG = ("A dog runs across the grass .",)


@pytest.mark.parametrize(
    ("captions", "folder"),
    [
        ({"results_20130124.token": TOKENS}, "flickr30k-images"),
        ({"results.csv": TABLE}, "flickr30k_images"),
        ({"flickr30k_images/results.csv": TABLE}, "flickr30k_images/flickr30k_images"),
        ({"results.csv": "\ufeff" + TABLE.replace("\n", "\r\n")}, "flickr30k_images"),
    ],
)
def test_both_layouts_give_one_corpus_of_train(
    captions: dict[str, object], folder: str, lay_out, tmp_path: Path
) -> None:
    names = ("1000092795.jpg", "2199200615.jpg")
    source = lay_out({**captions, **{f"{folder}/{name}": None for name in names}})
    report = import_flickr30k(source, tmp_path / "corpus")
    corpus = Corpus(tmp_path / "corpus")
    assert [(i.key, i.uri) for i in corpus.items()] == [
        (name, str(source / folder / name)) for name in names
    ]
    assert [(e.id, e.split, e.targets) for e in corpus.examples()] == [
        (names[0], "train", PAIR),
        (names[1], "train", DOG),
    ]
    assert report.notes[-1].startswith("all photographs are in train")


def test_lists_give_the_splits_with_or_without_the_ending(lay_out, tmp_path: Path) -> None:
    source = lay_out(
        {
            "results_20130124.token": TOKENS,
            "flickr30k-images/2199200615.jpg": None,
            "train.txt": "1000092795\n",
            "test.txt": "2199200615.jpg\n",
        }
    )
    report = import_flickr30k(source, tmp_path / "corpus")
    assert report.missing == ("1000092795.jpg",)
    assert "val left out: val.txt is absent" in report.notes
    assert [e.split for e in Corpus(tmp_path / "corpus").examples()] == ["test"]


def test_karpathys_file_gives_captions_and_splits(lay_out, tmp_path: Path) -> None:
    sentence = {"tokens": ["a", "dog"], "raw": "A dog .", "imgid": 0, "sentid": 0}
    image = {"sentids": [0], "imgid": 0, "sentences": [sentence], "split": "val"}
    data = {"images": [{**image, "filename": "2199200615.jpg"}], "dataset": "flickr30k"}
    source = lay_out({"k.json": data, "flickr30k-images/2199200615.jpg": None})
    import_flickr30k(source, tmp_path / "corpus", [source / "k.json"])
    examples = Corpus(tmp_path / "corpus").examples()
    assert [(e.id, e.split, e.targets) for e in examples] == [
        ("2199200615.jpg", "val", ("A dog .",))
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"results.csv": "image_name| a\nb.jpg| c"},
            r"results\.csv: line 2: 'b.jpg\| c', expected",
        ),
        ({"results.csv": "b.jpg| 0| c\nb.jpg| 0| d"}, "line 2: caption 0 of 'b.jpg' is on line 1"),
        ({"results.csv": "b.jpg| 0| "}, "line 1: 'b.jpg' has no caption"),
        (
            {"results.csv": "b.jpg| 0| c", "val.txt": "\nd\n"},
            r"val\.txt: line 2: 'd' has no caption",
        ),
        ({}, r"has neither results_20130124\.token nor results\.csv"),
    ],
)
def test_what_cannot_be_read_is_named(
    files: dict[str, object], message: str, lay_out, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        import_flickr30k(lay_out(files), tmp_path / "corpus")
