"""The score of a slice is the score of its examples, with an interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from intertitle.pipeline.corpus import Example
from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import Floats
from intertitle.training.data.task import Task
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.evaluation.slices import (
    MAX_SLICES,
    Slice,
    check_slices,
    slice_scores,
    slice_values,
)

REFERENCES = ["a dog runs", "a cat", "a man rides a brown horse", "dogs", "two men", "a bird sings"]
HYPOTHESES = ["a dog runs", "a dog", "a man rides a horse", "dogs", "two men cook", "a bird"]
EXAMPLES = [
    Example(f"00{n}", "val", f"i{n % 3}", "x " * n, (reference,))
    for n, reference in enumerate(REFERENCES)
]
LABELS, SENTENCES = Task("pooled", True, "label"), Task("pooled", True, "sentence")
KINDS = {"i0": "image", "i1": "video"}
SCORES = Scorer("translation", [[r] for r in REFERENCES], language="de").score(HYPOTHESES)


def parts(
    by: str, examples: list[Example] = EXAMPLES, statistics: dict[str, Floats] = SCORES.statistics
) -> list[Slice]:
    """Slices of the examples, whose references count as labels."""
    return slice_scores(by, slice_values(examples, by, LABELS, KINDS), statistics)


@pytest.mark.parametrize(
    ("by", "members"),
    [
        ("length", {"1–2": [1, 3, 4], "3": [0, 5], "6": [2]}),
        ("source_length", {"0–2": [0, 1, 2], "3": [3], "4": [4], "5": [5]}),
        ("kind", {"(none)": [2, 5], "image": [0, 3], "video": [1, 4]}),
        ("label", {reference: [n] for n, reference in enumerate(REFERENCES)}),
    ],
)
def test_a_slice_has_the_scores_of_its_examples(by: str, members: dict[str, list[int]]) -> None:
    slices = {part.value: part for part in parts(by)}
    assert slices.keys() == members.keys()
    for value, numbers in members.items():
        part = slices[value]
        assert part.num_examples == len(numbers)
        scorer = Scorer("translation", [[REFERENCES[n]] for n in numbers], language="de")
        expected = scorer.score([HYPOTHESES[n] for n in numbers]).values
        assert {name: score.value for name, score in part.scores.items()} == pytest.approx(expected)
        assert all(score.low <= score.high for score in part.scores.values())


def test_ranges_are_in_the_order_of_their_size() -> None:
    examples = [Example(f"{n}", "val", None, None, ("w " * n,)) for n in range(1, 21)]
    slices = parts("length", examples, {"exact_match": np.ones((20, 2))})
    assert [part.value for part in slices] == ["1–6", "7–11", "12–16", "17–20"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_has_the_values(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"table.{suffix}"
    rows = {"key": ["i0", "i1", "i2"], "place": ["indoors", "outdoors", "indoors"]}
    if suffix == "csv":
        lines = ["key,place", *(",".join(row) for row in zip(*rows.values(), strict=True))]
        file.write_text("\n".join(lines))
    else:
        pq.write_table(pa.table(rows), file)
    slices = parts(f"{file}:place")
    assert [(part.value, part.num_examples) for part in slices] == [("indoors", 4), ("outdoors", 2)]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("twice.csv:a", r"--by: twice\.csv: id '000' has two values, '1' and '2'"),
        ("size", r"--by 'size', allowed: length, source_length, kind, label, FILE:COLUMN"),
        ("gone.csv:a", r"--by: gone\.csv: no such file"),
        ("t.csv:b", r"--by: t\.csv: columns id, a, expected 'b' and 'id' or 'key'"),
        ("t.csv:a", r"--by: t\.csv: has no id '001', one of 5 missing"),
        ("bad.csv:a", r"--by: bad\.csv: CSV parse error"),
    ],
)
def test_a_mistake_is_one_line(
    by: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("id,a\n000,1\n")
    Path("bad.csv").write_text("id,a\n000,1,2\n")
    Path("twice.csv").write_text("id,a\n000,1\n001,1\n000,2\n")
    with pytest.raises(UserError, match=message):
        parts(by)
    if "has no id" not in message:
        with pytest.raises(UserError, match=message):
            check_slices(["length", by])


def test_identifiers_and_values_of_a_csv_file_are_texts(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("id,take\n" + "".join(f"{e.id},0{n % 2}\n" for n, e in enumerate(EXAMPLES)))
    assert [part.value for part in parts(f"{file}:take")] == ["00", "01"]


def test_words_are_those_of_the_tokenizer() -> None:
    examples = [Example(f"{n}", "val", None, None, ("狗" * n,)) for n in (1, 2, 3, 4)]
    assert slice_values(examples, "length", SENTENCES, {}, "zh") == ["1–2", "1–2", "3", "4"]


@pytest.mark.parametrize(
    ("by", "task", "message"),
    [
        ("label", SENTENCES, "--by label: the references are sentences, not labels"),
        ("source_length", Task("pooled", False, "label"), "the examples have no source"),
        ("label", LABELS, f"{MAX_SLICES + 1} different values, allowed: {MAX_SLICES}"),
    ],
)
def test_what_does_not_divide_the_examples_is_refused(by: str, task: Task, message: str) -> None:
    examples = [Example(f"{n}", "val", None, None, (f"{n}",)) for n in range(MAX_SLICES + 1)]
    with pytest.raises(UserError, match=message):
        slice_values(examples, by, task, {})
