"""Labelled text becomes a corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.corpus import Corpus, Example
from pipeline.errors import UserError
from pipeline.importers.labelled import import_labelled

PUBLISHED: dict[str, object] = {
    "train.tsv": "label\ttext\npos\ta film .\nneg\tno\tfilm .\n",
    "dev.tsv": "\ufefflabel\ttext\r\nneg\tdull .\r\n\r\n",
    "challenge.tsv": "pos\twithout a header .",
    "notes.txt": "",
}


def test_a_file_is_a_split_and_its_header_no_example(lay_out, tmp_path: Path) -> None:
    report = import_labelled(lay_out(PUBLISHED), tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").examples() == [
        Example("challenge:1", "challenge", None, "without a header .", ("pos",)),
        Example("dev:2", "val", None, "dull .", ("neg",)),
        Example("train:2", "train", None, "a film .", ("pos",)),
        Example("train:3", "train", None, "no film .", ("neg",)),
    ]
    assert (report.items, report.examples, report.references) == (0, 4, 4)


def test_one_file_is_enough(lay_out, tmp_path: Path) -> None:
    import_labelled(lay_out(PUBLISHED) / "train.tsv", tmp_path / "corpus")
    assert Corpus(tmp_path / "corpus").splits() == ["train"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pos\ta\nb\n", r"train\.tsv: line 2: 'b', expected label TAB text"),
        ("pos\t \n", "line 1: .*, expected label TAB text"),
        ("\ta film\n", "line 1: .*, expected label TAB text"),
        (f"pos\t{'word ' * 10_000}", "line 1: 10000 words, allowed: 5000"),
        ("label\ttext\n", r"train\.tsv: has no labelled text"),
        (b"pos\tcaf\xe9", "line 1: not UTF-8 at byte 7"),
    ],
)
def test_what_cannot_be_read_is_named(
    content: object, message: str, lay_out, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        import_labelled(lay_out({"train.tsv": content}), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
