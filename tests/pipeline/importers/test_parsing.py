"""Published files are read line by line and field by field, and what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertitle.pipeline.corpus import clean_text
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.parsing import (
    MAX_WORDS,
    by_id,
    check_caption,
    files_of,
    find_file,
    is_blank,
    lines,
    read_json,
    split_named,
    videos_in,
)
from intertitle.pipeline.importers.walk import walk


@given(st.text(st.characters(), max_size=8))
def test_a_text_is_blank_where_nothing_of_it_is_left_once_cleaned(text: str) -> None:
    assert is_blank(text) == (clean_text(text) == "")


def test_only_lf_and_crlf_end_a_line_and_a_mark_of_byte_order_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes("\ufeffa\r\n\nb\rc\u2028d\x0ce\n\ufefff".encode())
    assert list(lines(file)) == [(1, "a"), (2, ""), (3, "b\rc\u2028d\x0ce"), (4, "\ufefff")]


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(UserError, match="file: line 2: not UTF-8 at byte 3"):
        list(lines(file))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{\n"a": 1,\n}', "file: line 3: not JSON"),
        ("[1]", r"file: \[1\], expected an object"),
        ("[" * 100_000, "nested too deeply"),
        ("", "file: line 1: not JSON"),
    ],
)
def test_what_is_not_json_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(UserError, match=message):
        read_json(tmp_path / "file")


def test_a_record_names_its_index_and_field(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"rows": [{"id": 1}, {"id": true, "in": [{}]}, 7]}')
    data = read_json(tmp_path / "file")
    records = data.records("rows")
    first, second = next(records), next(records)
    assert first.get("id", int) == 1
    with pytest.raises(UserError, match=r"file: rows\[1\]\.id: True, expected a whole number"):
        second.get("id", int)
    with pytest.raises(UserError, match=r"file: rows\[1\]\.in\[0\]\.text: missing"):
        next(second.records("in")).get("text", str)
    with pytest.raises(UserError, match=r"file: rows\[2\]: 7, expected an object"):
        next(records)
    with pytest.raises(UserError, match="file: columns: missing"):
        data.get("columns", list)


def test_two_records_with_one_id_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({"rows": [{"id": 4}, {"id": 5}, {"id": 4}]}))
    records = read_json(tmp_path / "file").records("rows")
    with pytest.raises(
        UserError, match=r"rows\[2\]\.id: 4 is taken by .*rows\[0\]; ids are unique"
    ):
        by_id(records, "id", int)


def test_a_text_of_too_many_words_is_refused() -> None:
    assert check_caption("word " * MAX_WORDS, "file: line 1")
    with pytest.raises(UserError, match="file: line 1: 10000 words, allowed: 5000"):
        check_caption("a long " * 5_000, "file: line 1")


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "b/../../a.jpg", "", "."])
def test_a_name_that_leads_out_of_the_data_set_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"file: line 1: .*, expected the name of a file"):
        find_file([tmp_path], name, "file: line 1")


@pytest.mark.parametrize("name", ["\ud800.jpg", "a\0.jpg", "none.jpg"])
def test_a_name_that_no_file_can_have_is_not_found(name: str, tmp_path: Path) -> None:
    assert find_file([tmp_path], name, "file: line 1") is None


def test_a_name_is_found_however_its_accents_are_composed(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    (tmp_path / decomposed).mkdir()
    (tmp_path / decomposed / f"{decomposed}.jpg").touch()
    (tmp_path / f"{composed}.mp4").touch()
    found = find_file([tmp_path], f"{composed}/{composed}.jpg", "file: line 1")
    assert found is not None and found.is_file()
    found = find_file([tmp_path], f"{decomposed}.mp4", "file: line 1")
    assert found == tmp_path / f"{composed}.mp4"
    assert videos_in(walk(tmp_path)) == {composed: tmp_path / f"{composed}.mp4"}
    # What arrives later is found too.
    (tmp_path / f"{decomposed}.png").touch()
    assert find_file([tmp_path], f"{composed}.png", "file: line 1") is not None


def test_what_macos_leaves_beside_a_file_of_text_is_none(tmp_path: Path) -> None:
    for name in ("train.txt", "._train.txt"):
        (tmp_path / name).touch()
    assert files_of(tmp_path, ".txt") == [tmp_path / "train.txt"]


@pytest.mark.parametrize(
    ("stem", "split"),
    [("train", "train"), ("ptb.valid", "val"), ("Dev", "val"), ("test", "test"), ("novel", None)],
)
def test_a_files_name_gives_the_split(stem: str, split: str | None) -> None:
    assert split_named(stem) == split


def test_the_first_of_two_videos_of_one_name_counts(tmp_path: Path) -> None:
    for name in ("b/clip.mp4", "a/clip.AVI", "clip.txt", "a/other.webm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert videos_in(walk(tmp_path)) == {
        "clip": tmp_path / "a/clip.AVI",
        "other": tmp_path / "a/other.webm",
    }


def test_a_folder_without_such_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no files that end in \.tsv"):
        files_of(tmp_path, ".tsv")
    with pytest.raises(UserError, match="nowhere: not a folder"):
        files_of(tmp_path / "nowhere", ".tsv")
