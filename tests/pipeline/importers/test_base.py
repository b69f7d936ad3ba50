"""The rules that hold for the captions of every data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.base import Caption, CaptionedItem, video_item, write_captioned


def thing(
    name: str, captions: Sequence[str], *, line: int = 1, there: bool = True
) -> CaptionedItem:
    item = video_item(name, Path("/films") / name if there else None)
    said = [Caption(text, f"captions: line {n}") for n, text in enumerate(captions, start=1)]
    return CaptionedItem(name, item, "train", said, f"list: line {line}")


def test_what_is_absent_is_reported_and_empty_captions_are_counted(tmp_path: Path) -> None:
    things = [thing("a", ["one", " ", "\0", "two"]), thing("b", ["three"], there=False)]
    report = write_captioned(tmp_path, tmp_path / "corpus", things, ["a note"])
    assert (report.items, report.examples, report.references) == (1, 1, 2)
    assert report.missing == ("b",)
    assert report.notes[-2:] == ("a note", "2 empty captions left out")
    example = Corpus(tmp_path / "corpus").examples()[0]
    assert (example.id, example.item_key, example.targets) == ("a", "a", ("one", "two"))


def test_control_characters_and_lone_surrogates_are_cleaned(tmp_path: Path) -> None:
    write_captioned(tmp_path, tmp_path / "corpus", [thing("a", ["a\x00dog\nruns \ud83d"])], [])
    assert Corpus(tmp_path / "corpus").examples()[0].targets == ("a dog runs \ufffd",)


@pytest.mark.parametrize(
    ("things", "message"),
    [
        ([thing("a", ["1"]), thing("a", ["2"], line=2)], "line 2: 'a' is taken by list: line 1"),
        ([thing("a", [])], "list: line 1: 'a' has no caption"),
        ([thing("a", [" ", "\x7f"])], "list: line 1: 'a' has no caption"),
        ([thing("a", ["short", "word " * 10_000])], "captions: line 2: 10000 words, allowed"),
        ([thing("\udc00", ["1"], there=False)], r"list: line 1: '\\udc00' is not valid Unicode"),
        ([thing("a", ["1"], there=False)], "has none of the 1 files that are named, .* 'a'"),
        ([], "has none of the 0 files that are named"),
    ],
)
def test_what_cannot_be_learned_from_is_named(
    things: list[CaptionedItem], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        write_captioned(tmp_path, tmp_path / "corpus", things, [])
    assert not (tmp_path / "corpus").exists()
