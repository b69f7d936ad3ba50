"""What a run shows of its result."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.metrics.scores import Scores
from intertitle.training.evaluation.record import EvaluationRecord, read_record, write_record
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.scorers import Scorer
from intertitle.training.evaluation.slices import slice_scores
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.reports.run_report.page import render, shown_items
from intertitle.training.reports.run_report.summary import (
    NUM_EXAMPLES,
    describe_run,
    length_slices,
)
from intertitle.training.tracking.store.client import RunRef
from tests.training.evaluations import captions, spoiled
from tests.training.metric_names import TRANSLATION_METRICS

NUM = 60
PICTURE = "get-artifact?path=1.jpg&run_uuid=id"


def evaluated() -> Evaluation:
    """An evaluation of captions, half of them spoiled."""
    samples = tuple(spoiled(captions(NUM), 0.5))
    scores = Scorer("caption", [s.references for s in samples]).score(
        [s.hypothesis for s in samples], TRANSLATION_METRICS
    )
    kinds = ["image", "video"] * (NUM // 2)
    slices = tuple(slice_scores("kind", kinds, scores.statistics))
    return Evaluation("val", samples, NUM, 0, scores, search="beam search of 3", slices=slices)


def recorded(folder: Path) -> EvaluationRecord:
    evaluation = evaluated()
    scores = evaluation.scores
    details = {
        "split": "val",
        "task": "caption",
        "data": {"corpus": "nowhere"},
        "scores": scores.values,
        "signatures": scores.signatures,
    }
    write_record(folder, evaluation, details)
    return read_record(folder)


def test_examples_are_grouped_by_the_length_of_their_reference(tmp_path: Path) -> None:
    record = recorded(tmp_path)
    rows = length_slices(record, ["exact_match"])
    assert sum(row.num_examples for row in rows) == NUM and len(rows) > 1
    ends = [int(end) for row in rows for end in row.value.split("–")]
    assert ends == sorted(ends)
    right = record.statistics["exact_match"]
    weighted = sum(row.num_examples * row.scores["exact_match"].value for row in rows)
    assert weighted / NUM == pytest.approx(right[:, 0].sum() / right[:, 1].sum())


def test_running_text_has_no_lengths() -> None:
    empty = EvaluationRecord(
        {}, ("1",), (None,), (None,), ("",), ((),), np.zeros(1), np.zeros(1), {}
    )
    assert length_slices(empty, []) == []


def test_the_description_has_scores_examples_and_commands() -> None:
    text = describe_run("my run", evaluated(), {"clip 20": PICTURE})
    lines = text.splitlines()
    assert lines[0] == "**60 of val, beam search of 3**, with 95 % intervals"
    for metric in TRANSLATION_METRICS:
        assert any(line.startswith(f"| {metric.replace('_', chr(92) + '_')} |") for line in lines)
    assert sum(line.startswith("- ") for line in lines) == NUM_EXAMPLES
    assert (
        sum(line.startswith("- ![](get-artifact?path=1.jpg&run_uuid=id) ") for line in lines) == 1
    )
    commands = [shlex.split(line) for line in lines if line.startswith("intertitle ")]
    assert [words[1] for words in commands] == ["predict", "compare", "report"]
    assert all("my run" in words for words in commands)
    assert len(text) < 5000


def test_texts_of_the_description_are_shown_as_they_are() -> None:
    sample = Sample("a", None, None, "*b* <script>" + "x" * 5000, ("[c](d)\nnext",), 0.0)
    text = describe_run("r", Evaluation("val", (sample,), 1, 0, Scores.of({}, {})), {})
    assert r"\*b\* &lt;script&gt;x" in text
    assert r"\[c\](d) next" in text
    assert len(text) < 1000


def test_the_page_of_a_run_has_scores_lengths_curves_and_examples(tmp_path: Path) -> None:
    run = EvaluatedRun(RunRef("id", "<run>", ""), {"recipe": "s2vt"}, recorded(tmp_path))
    keys = shown_items(run)
    html = render(run, {min(keys): b"jpeg"}, b"png")
    for words in ("&lt;run&gt;", "Scores by length", "Scores by kind", "Errors by word"):
        assert words in html
    assert "Best examples by" in html and "Worst examples by" in html
    assert html.count('src="data:image/jpeg;base64,') == 1
    assert html.count('src="data:image/png;base64,') == 1
    assert "Learning curves" not in render(run, {})
