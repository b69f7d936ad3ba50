"""The score of a slice is the score of its examples, with an interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.evaluation.slices import slice_scores

REFERENCES = ["a dog runs", "a cat", "a man rides a brown horse", "dogs", "two men", "a bird sings"]
HYPOTHESES = ["a dog runs", "a dog", "a man rides a horse", "dogs", "two men cook", "a bird"]
SAMPLES = [
    Sample(f"e{n}", f"i{n % 3}", "x " * n, hypothesis, (reference,), 0.0)
    for n, (hypothesis, reference) in enumerate(zip(HYPOTHESES, REFERENCES, strict=True))
]
KINDS = {"i0": "image", "i1": "video"}
SCORES = Scorer("translation", [[r] for r in REFERENCES], language="de").score(HYPOTHESES)


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
    slices = {part.value: part for part in slice_scores(SAMPLES, SCORES.statistics, by, KINDS)}
    assert slices.keys() == members.keys()
    for value, numbers in members.items():
        part = slices[value]
        assert part.num_examples == len(numbers)
        scorer = Scorer("translation", [[REFERENCES[n]] for n in numbers], language="de")
        expected = scorer.score([HYPOTHESES[n] for n in numbers]).values
        assert {name: score.value for name, score in part.scores.items()} == pytest.approx(expected)
        assert all(score.low <= score.high for score in part.scores.values())


def test_ranges_are_in_the_order_of_their_size() -> None:
    samples = [Sample(f"{n}", None, None, "a", ("w " * n,), 0.0) for n in range(1, 21)]
    statistics = {"exact_match": np.ones((20, 2))}
    slices = slice_scores(samples, statistics, "length", {})
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
    slices = slice_scores(SAMPLES, SCORES.statistics, f"{file}:place", KINDS)
    assert [(part.value, part.num_examples) for part in slices] == [("indoors", 4), ("outdoors", 2)]


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ("size", r"--by 'size', allowed: length, source_length, kind, label, FILE:COLUMN"),
        ("gone.csv:a", r"--by: gone\.csv: no such file"),
        ("t.csv:b", r"--by: t\.csv: columns id, a, expected 'b' and 'id' or 'key'"),
        ("t.csv:a", r"--by: t\.csv: has no id 'e1', one of 5 missing"),
        ("bad.csv:a", r"--by: bad\.csv: CSV parse error"),
    ],
)
def test_a_mistake_is_one_line(
    by: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text("id,a\ne0,1\n")
    Path("bad.csv").write_text("id,a\ne0,1,2\n")
    with pytest.raises(UserError, match=message):
        slice_scores(SAMPLES, SCORES.statistics, by, KINDS)
