"""A corpus on disk: what comes back, what is cleaned, and what is refused by name."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intertitle.pipeline.corpus import (
    CORPUS_FORMAT,
    Corpus,
    Example,
    Item,
    clean_text,
    name_target_language,
    write_corpus,
)
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.report import count_import

CLIP = Item("a", "a.mp4", "video")
CAPTION = Example("1", "train", "a", None, ("a dog runs",))

# Everything but lone surrogates, control characters and newlines included.
texts = st.text()
seconds = st.none() | st.floats(0, 1e6)
items = st.builds(Item, texts, texts, st.sampled_from(("video", "image")), seconds).map(
    lambda item: (
        item
        if item.start_s is None
        else Item(item.key, item.uri, item.kind, item.start_s, item.start_s + 1)
    )
)
sentences = texts.filter(clean_text)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[Item], list[Example]]:
    found = draw(st.lists(items, max_size=5, unique_by=lambda item: item.key))
    about = st.none() | st.sampled_from([i.key for i in found]) if found else st.none()
    example = st.builds(
        Example, texts, texts, about, st.none() | texts, st.lists(sentences, min_size=1).map(tuple)
    )
    return found, draw(st.lists(example, max_size=5, unique_by=lambda e: e.id))


@settings(max_examples=60)
@given(corpora())
def test_what_is_written_comes_back_in_order_with_its_text_cleaned(
    written: tuple[list[Item], list[Example]],
) -> None:
    with TemporaryDirectory() as folder:
        corpus = write_corpus(folder, *written)
        assert corpus.items() == written[0]
        assert corpus.examples() == [
            Example(
                e.id,
                e.split,
                e.item_key,
                None if e.source is None else clean_text(e.source),
                tuple(clean_text(target) for target in e.targets),
            )
            for e in written[1]
        ]


@given(st.text(st.characters()))
def test_clean_text_is_one_line_of_valid_unicode_and_stays_as_it_is(text: str) -> None:
    clean = clean_text(text)
    clean.encode()
    assert len(clean.splitlines()) <= 1
    assert clean == " ".join(clean.split()) == clean_text(clean)


def test_clean_text_keeps_what_can_be_read() -> None:
    assert (
        clean_text("\t Ein  Bär\r\nläuft\x00\u2028weg \ud83d 🐻") == "Ein Bär läuft weg \ufffd 🐻"
    )


@pytest.mark.parametrize(
    ("items", "examples", "message"),
    [
        ([CLIP, Item("b", "b.png", "image"), CLIP], [], "rows 0 and 2 share the key 'a'"),
        ([CLIP], [CAPTION, CAPTION], "rows 0 and 1 share the id '1'"),
        ([], [CAPTION], r"row 0 \('1'\): item_key 'a' is not among the items"),
        ([CLIP], [Example("1", "train", "a", None, ())], "at least one target"),
        ([CLIP], [Example("1", "train", "a", None, ("fine", "\x00 "))], "none of them empty"),
        ([Item("a", "a.wav", "audio")], [], "kind 'audio', allowed: video, image"),  # type: ignore[arg-type]
        ([Item("a", "a.mp4", "video", 2.0, 2.0)], [], "end_s 2.0 is not after start_s 2.0"),
        ([Item("a", "\udcff.mp4", "video")], [], r"uri '\\udcff.mp4' is not valid Unicode"),
    ],
)
def test_refusals_name_the_row_and_leave_no_file(
    items: list[Item], examples: list[Example], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        write_corpus(tmp_path / "corpus", items, examples)
    assert not (tmp_path / "corpus").exists()


def test_a_folder_without_a_corpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a corpus: items\.parquet is missing"):
        Corpus(tmp_path)


def test_damaged_and_foreign_tables_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path, [CLIP], [CAPTION])
    (tmp_path / "examples.parquet").write_text("not Parquet")
    with pytest.raises(UserError, match=r"examples\.parquet: not a Parquet file"):
        Corpus(tmp_path)
    foreign = pa.table({"path": ["a.mp4"]})
    pq.write_table(foreign, tmp_path / "items.parquet")
    with pytest.raises(UserError, match=r"items\.parquet: no version of the corpus format"):
        Corpus(tmp_path)
    versioned = foreign.replace_schema_metadata(CORPUS_FORMAT.metadata())
    pq.write_table(versioned, tmp_path / "items.parquet")
    with pytest.raises(UserError, match=r"items\.parquet: columns \['path'\], expected \['key'"):
        Corpus(tmp_path)


def test_examples_are_chosen_by_split_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    other = Example("2", "test", "a", "what runs?", ("a dog", "it does"))
    corpus = write_corpus(tmp_path, [CLIP], [other, CAPTION])
    assert corpus.splits() == ["test", "train"]
    assert corpus.examples("train") == [CAPTION]
    with pytest.raises(UserError, match=r"no examples of split 'val'; it has \['test', 'train'\]"):
        corpus.examples("val")


def test_fingerprints_are_equal_for_equal_rows_wherever_they_lie(tmp_path: Path) -> None:
    here = write_corpus(tmp_path / "here", [CLIP], [CAPTION])
    there = write_corpus(tmp_path / "there", [CLIP], [CAPTION])
    reworded = Example("1", "train", "a", None, ("a dog ran",))
    other = write_corpus(tmp_path / "other", [CLIP], [reworded])
    assert here.fingerprint() == there.fingerprint() != other.fingerprint()


def test_relative_places_are_below_the_corpus_and_absolute_ones_stay(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, [CLIP], [])
    assert corpus.locate(CLIP) == tmp_path / "a.mp4"
    assert corpus.locate(Item("b", "/films/b.mp4", "video")) == Path("/films/b.mp4")


def test_a_pickled_corpus_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "corpus", [CLIP], [CAPTION])
    name_target_language(tmp_path / "corpus", "en")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    corpus = Corpus("corpus")
    # As a pickled copy is made.
    copied = copy.deepcopy(corpus)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert copied.items() == [CLIP] and copied.examples() == [CAPTION]
    assert copied.locate(CLIP) == copied.path / "a.mp4" and copied.path.is_dir()
    assert copied.target_language == "en"


def test_a_report_counts_references_and_splits(tmp_path: Path) -> None:
    two = Example("2", "val", "a", None, ("a dog", "an animal"))
    report = count_import(write_corpus(tmp_path, [CLIP], [CAPTION, two]), ["gone.mp4"], ["a note"])
    assert (report.items, report.examples, report.references) == (1, 2, 3)
    assert report.missing == ("gone.mp4",)
    assert report.notes == ("train: 1 examples", "val: 1 examples", "a note")
