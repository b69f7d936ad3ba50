"""Plain text becomes a corpus of lines, from which it can be put together again."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intertitle.pipeline.corpus import Corpus, Example
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.text import import_text

visible = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=5)


@settings(max_examples=30)
@given(st.lists(st.one_of(st.just(""), visible), max_size=30), visible)
def test_the_text_with_its_blank_lines_can_be_put_together_again(
    before: list[str], last: str
) -> None:
    text = "\n".join([*before, last])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "input.txt"
        file.write_text(text, encoding="utf-8")
        import_text(file, Path(folder) / "corpus")
        examples = Corpus(Path(folder) / "corpus").examples()
    line_of = {int(e.id.removeprefix("input.txt:")): e.targets[0] for e in examples}
    assert "\n".join(line_of.get(n, "") for n in range(1, max(line_of) + 1)) == text


def test_the_last_tenth_of_one_file_is_val(lay_out, tmp_path: Path) -> None:
    text = "First Citizen:\nSpeak.\n\n" * 10
    source = lay_out({"input.txt": text})
    report = import_text(source / "input.txt", tmp_path / "corpus")
    examples = Corpus(tmp_path / "corpus").examples()
    assert examples[0] == Example("input.txt:000000001", "train", None, None, ("First Citizen:",))
    assert [e.split for e in examples] == ["train"] * 18 + ["val"] * 2
    assert examples[-1].id == "input.txt:000000029"
    assert report.notes[-1].startswith("val: the last tenth of the lines")


def test_in_a_folder_the_files_names_say_the_splits(lay_out, tmp_path: Path) -> None:
    source = lay_out(
        {"ptb.train.txt": "a\n" * 20, "ptb.valid.txt": "\ufeffb\r\n", "c.txt": "c", "d.md": "d"}
    )
    report = import_text(source, tmp_path / "corpus")
    examples = Corpus(tmp_path / "corpus").examples()
    assert [(e.id, e.split, e.targets) for e in (examples[0], examples[-1])] == [
        ("c.txt:000000001", "train", ("c",)),
        ("ptb.valid.txt:000000001", "val", ("b",)),
    ]
    assert report.notes == ("train: 21 examples", "val: 1 examples")


def test_lines_that_cleaning_changes_are_counted(lay_out, tmp_path: Path) -> None:
    source = lay_out({"train.txt": "as it was\n  an  indent\na\x0cb\n", "val.txt": "c"})
    report = import_text(source, tmp_path / "corpus")
    assert [e.targets for e in Corpus(tmp_path / "corpus").examples("train")] == [
        ("as it was",),
        ("an indent",),
        ("a b",),
    ]
    assert report.notes[-1].startswith("2 lines changed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\n" + "word " * 10_000, r"input\.txt: line 2: 10000 words, allowed: 5000"),
        ("\n \n", r"input\.txt: has no text"),
        (b"a\n\xff", "line 2: not UTF-8 at byte 0"),
    ],
)
def test_what_cannot_be_read_is_named(
    content: object, message: str, lay_out, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        import_text(lay_out({"input.txt": content}), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
