"""Predictions as files, and lists of other systems."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.inference.prediction_io import (
    Prediction,
    check_out,
    read_predictions,
    write_predictions,
)

TOLD = [
    Prediction("a.mp4", 1, -0.25, "ein Hund, „brav“"),
    Prediction("a.mp4", 2, -1.5, ""),
    Prediction("b.mp4", 1, -1e-9, "a cat"),
]


def test_lines_of_json_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_predictions(tmp_path / "out.jsonl", TOLD)
    assert read_predictions(tmp_path / "out.jsonl", scored=True) == TOLD
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert first == {
        "id": "a.mp4",
        "rank": 1,
        "score": -0.25,
        "text": "ein Hund, „brav“",
        "format_version": 1,
    }
    assert [file.name for file in tmp_path.iterdir()] == ["out.jsonl"]


def test_text_has_a_line_each_and_parquet_all_columns(tmp_path: Path) -> None:
    write_predictions(tmp_path / "out.txt", TOLD)
    assert (tmp_path / "out.txt").read_text() == "ein Hund, „brav“\n\na cat\n"
    write_predictions(tmp_path / "out.parquet", TOLD)
    table = pq.read_table(tmp_path / "out.parquet")
    assert [Prediction(**row) for row in table.to_pylist()] == TOLD
    assert table.schema.metadata == {b"format_version": b"1"}


@pytest.mark.parametrize(
    ("name", "nbest", "named"),
    [
        ("out.csv", 1, r"ending '\.csv', allowed: \.txt \.jsonl \.parquet"),
        ("out.txt", 2, r"ending '\.txt', allowed for several of an input: \.jsonl"),
        ("gone/out.txt", 1, "no folder .*gone"),
    ],
)
def test_where_nothing_can_be_written_is_said_before(
    tmp_path: Path, name: str, nbest: int, named: str
) -> None:
    with pytest.raises(UserError, match=named):
        check_out(tmp_path / name, nbest)


def test_a_list_of_another_system_may_lack_ranks_and_scores(tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    file.write_text(
        '{"id": "1", "text": "a", "system": "moses"}\n\n{"id": "2", "text": "b"}\n'
        '{"id": "1", "text": "c", "score": 3}\n'
        '{"id": "2", "text": "d", "rank": 5}\n{"id": "2", "text": "e", "rank": 3}\n'
        '{"id": "2", "text": "f"}\n'
    )
    assert read_predictions(file, scored=False) == [
        Prediction("1", 1, 0.0, "a"),
        Prediction("2", 1, 0.0, "b"),
        Prediction("1", 2, 3.0, "c"),
        Prediction("2", 5, 0.0, "d"),
        Prediction("2", 3, 0.0, "e"),
        Prediction("2", 6, 0.0, "f"),
    ]
    with pytest.raises(UserError, match=r"list\.jsonl: line 1: score: missing, allowed: a finite"):
        read_predictions(file, scored=True)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"a dog", r"not JSON: "),
        (b'{"id": "1", "text": "\xff"}', r"not JSON: .*0xff"),
        (b"[1]", r"\[1\], allowed: an object with id, rank, score, text"),
        (b'{"text": "a", "score": 1}', r"id: missing, allowed: a text"),
        (b'{"id": 7, "text": "a", "score": 1}', r"id: 7, allowed: a text"),
        (b'{"id": "7", "text": null, "score": 1}', r"text: None, allowed: a text"),
        (b'{"id": "7", "text": "a", "score": "x"}', r"score: 'x', allowed: a finite number"),
        (b'{"id": "7", "text": "a", "score": NaN}', r"score: nan, allowed: a finite number"),
        (b'{"id": "7", "text": "\\ud83d", "score": 1}', r"text: '\\ud83d', allowed: a text"),
        (
            b'{"id": "7", "text": "a", "score": 1' + 400 * b"0" + b"}",
            r"score: 10+, allowed: a fini",
        ),
        (b'{"id": "7", "text": "a", "score": true}', r"score: True, allowed: a finite number"),
        (b'{"id": "7", "text": "a", "score": 1, "rank": 0}', r"rank: 0, allowed: a whole number"),
        (b'{"id": "7", "text": "a", "score": 1, "rank": 1.5}', r"rank: 1\.5, allowed: a whole"),
    ],
)
def test_a_bad_line_is_named_with_its_field_and_what_is_allowed(
    tmp_path: Path, line: bytes, named: str
) -> None:
    file = tmp_path / "list.jsonl"
    file.write_bytes(b'{"id": "1", "text": "a", "score": 1}\n' + line + b"\n")
    with pytest.raises(UserError, match=rf"list\.jsonl: line 2: {named}") as refused:
        read_predictions(file, scored=True)
    assert "\n" not in str(refused.value)


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"list\.jsonl: no line in it"):
        read_predictions(tmp_path / "list.jsonl", scored=False)
