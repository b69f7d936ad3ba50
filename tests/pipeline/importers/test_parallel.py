"""Aligned text becomes a corpus of pairs."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intertitle.pipeline.corpus import Corpus, Example
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.parallel import import_parallel_files, import_parallel_folder

words = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=5)
sentences = st.lists(words, min_size=1, max_size=4).map(" ".join)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(sentences, sentences), min_size=1, max_size=8),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_the_pairs_of_lines_are_the_pairs_of_the_corpus(
    pairs: list[tuple[str, str]], end: str, last_end: bool, mark: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "source", Path(folder) / "target"
        for side, file in enumerate(files):
            text = end.join(pair[side] for pair in pairs) + (end if last_end else "")
            file.write_bytes((b"\xef\xbb\xbf" if mark else b"") + text.encode())
        import_parallel_files(*files, Path(folder) / "corpus")
        examples = Corpus(Path(folder) / "corpus").examples()
    assert [(e.source, e.targets) for e in examples] == [(s, (t,)) for s, t in pairs]


# What Python or other programs take for the end of a line.
NO_ENDS = "a\rb\x0bc\x0cd\x1ce\x1df\x1eg\x85h\u2028i\u2029j"


def test_only_a_line_feed_ends_a_line(lay_out, tmp_path: Path) -> None:
    source = lay_out({"train.en": f"{NO_ENDS}\r\nsecond\n", "train.de": "eins\nzwei\n"})
    import_parallel_folder(source, tmp_path / "corpus", "en", "de")
    assert [(e.source, e.targets) for e in Corpus(tmp_path / "corpus").examples()] == [
        ("a b c d e f g h i j", ("eins",)),
        ("second", ("zwei",)),
    ]


def test_a_folder_gives_each_pair_as_a_split(lay_out, tmp_path: Path) -> None:
    source = lay_out(
        {
            "train.en": "Two men .\nA girl .\n",
            "train.de": "Zwei Männer .\nEin Mädchen .\n",
            "dev.en": "A dog .\n",
            "dev.de": "Ein Hund .\n",
            "newstest2014.en": "News .",
            "newstest2014.de": "Nachrichten .",
            "train.fr": "Deux hommes .\n",
            "README": "",
        }
    )
    report = import_parallel_folder(source, tmp_path / "corpus", "en", "de")
    assert Corpus(tmp_path / "corpus").examples() == [
        Example("dev:1", "val", None, "A dog .", ("Ein Hund .",)),
        Example("newstest2014:1", "newstest2014", None, "News .", ("Nachrichten .",)),
        Example("train:1", "train", None, "Two men .", ("Zwei Männer .",)),
        Example("train:2", "train", None, "A girl .", ("Ein Mädchen .",)),
    ]
    assert (report.items, report.examples, report.references) == (0, 4, 4)


def test_the_split_of_two_files_is_train_where_their_name_says_none(
    lay_out, tmp_path: Path
) -> None:
    source = lay_out({"a.en": "A", "a.de": "B", "val.en": "A", "val.de": "B"})
    for stem, split in (("a", "train"), ("val", "val")):
        import_parallel_files(source / f"{stem}.en", source / f"{stem}.de", tmp_path / stem)
        assert Corpus(tmp_path / stem).splits() == [split]


def test_pairs_that_teach_nothing_are_left_out_and_counted(lay_out, tmp_path: Path) -> None:
    source = lay_out({"train.en": "A\n\nC\nD\n", "train.de": f"a\nb\n \t\n{'word ' * 10_000}\n"})
    report = import_parallel_folder(source, tmp_path / "corpus", "en", "de")
    assert [e.id for e in Corpus(tmp_path / "corpus").examples()] == ["train:1"]
    assert report.notes[-1].startswith("train: 3 pairs left out: a side is empty or has more")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train.en": "A\nB\n", "train.de": "a\n"},
            r"train\.en has 2 lines, .*train\.de has 1: aligned files have the same number",
        ),
        ({"train.en": "A\n"}, r"train\.de: missing"),
        ({"train.de": "A\n"}, r"train\.en: missing"),
        ({"train.en": "\n", "train.de": "\n"}, r"train\.en: has no pair of lines"),
        ({"train.en": b"A\n\xff\n", "train.de": "a\nb\n"}, "line 2: not UTF-8 at byte 0"),
        ({"train.fr": "A\n"}, r"has no files that end in \.en or \.de"),
    ],
)
def test_what_is_not_aligned_is_refused(
    files: dict[str, object], message: str, lay_out, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        import_parallel_folder(lay_out(files), tmp_path / "corpus", "en", "de")
    assert not (tmp_path / "corpus").exists()
