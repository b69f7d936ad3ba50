"""Labelled text becomes a corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus, Example
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.labelled import import_labelled

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


SENTENCES = [f"film number {n} is a long one" for n in range(30)]


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("sentence\tlabel", "{text}\t{label}"),
        ("Text\tLABEL ", "{text}\t{label}"),
        ("label\ttext", "{label}\t{text}"),
        ("class\treview", "{label}\t{text}"),
        ("id\tsentence\tlabel", "7\t{text}\t{label}"),
        ("sentiment\tid\tphrase", "{label}\t7\t{text}"),
    ],
)
def test_a_header_says_which_column_is_which(
    header: str, columns: str, lay_out, tmp_path: Path
) -> None:
    rows = [columns.format(text=text, label=n % 2) for n, text in enumerate(SENTENCES)]
    folder = lay_out({"train.tsv": "\n".join([header, *rows])})
    import_labelled(folder, tmp_path / "corpus")
    examples = Corpus(tmp_path / "corpus").examples()
    assert [(e.source, e.targets) for e in examples] == [
        (text, (str(n % 2),)) for n, text in enumerate(SENTENCES)
    ]


@pytest.mark.parametrize("num", [4, 30])
def test_sentences_are_not_taken_for_labels(num: int, lay_out, tmp_path: Path) -> None:
    rows = [f"{text}\t{n % 2}\n" for n, text in enumerate(SENTENCES[:num])]
    folder = lay_out({"train.tsv": "".join(rows)})
    named = rf"train\.tsv: {num} different labels in {num} lines, .*allowed: label TAB text"
    with pytest.raises(UserError, match=named):
        import_labelled(folder, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_a_label_for_each_line_is_no_label(lay_out, tmp_path: Path) -> None:
    rows = [f"{text}\t{text} again\n" for text in SENTENCES]
    with pytest.raises(UserError, match="30 different labels in 30 lines"):
        import_labelled(lay_out({"train.tsv": "".join(rows)}), tmp_path / "corpus")
    # Of few lines each may have a label of its own.
    twenty = lay_out({"train.tsv": "".join(rows[:20])})
    with pytest.raises(UserError, match="20 different labels in 20 lines"):
        import_labelled(twenty, tmp_path / "corpus")
    import_labelled(lay_out({"train.tsv": "".join(rows[:19])}), tmp_path / "few")
    assert len(list(Corpus(tmp_path / "few").examples())) == 19


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pos\ta\nb\n", r"train\.tsv: line 2: 'b', expected label TAB text"),
        ("pos\t \n", "line 1: .*, expected label TAB text"),
        ("\ta film\n", "line 1: .*, expected label TAB text"),
        (f"pos\t{'word ' * 10_000}", "line 1: 10000 words, allowed: 5000"),
        ("label\ttext\n", r"train\.tsv: has no labelled text"),
        ("sentence\tlabel\na film\tb\tc\n", "line 2: .* expected 2 columns as in the header"),
        (b"pos\tcaf\xe9", "line 1: not UTF-8 at byte 7"),
    ],
)
def test_what_cannot_be_read_is_named(
    content: object, message: str, lay_out, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        import_labelled(lay_out({"train.tsv": content}), tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


def test_of_several_files_without_text_the_first_is_named(lay_out, tmp_path: Path) -> None:
    folder = lay_out({"train.tsv": "label\ttext\n", "val.tsv": "label\ttext\n"})
    with pytest.raises(UserError, match=r"train\.tsv: has no labelled text"):
        import_labelled(folder, tmp_path / "corpus")
