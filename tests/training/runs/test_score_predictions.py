"""Predictions of anyone's, measured on a run's data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.reports.evaluations import find_newest
from intertitle.training.runs.score_predictions import score_predictions
from tests.training.conftest import Trained, coloured_things, split_of, write_features


def test_the_first_of_each_counts_and_is_kept_apart_from_the_run_s_own(
    trained: Trained, things: DataRef, words: Vocabs, tmp_path: Path
) -> None:
    examples = split_of(things, "val", words).examples
    right = [Prediction(e.id, 1, 0.0, e.targets[0]) for e in examples]
    wrong = [replace(one, rank=2, text="something else") for one in right]
    run = trained.result.run
    own = find_newest(run, "val")
    evaluation = score_predictions(run, [*wrong, *right], "people's", split="val")
    assert evaluation.scores.values["exact_match"] == pytest.approx(100)
    missing = {"nats_per_token", "perplexity", "search_errors"}
    assert not missing & evaluation.scores.values.keys()
    assert missing <= evaluation.scores.not_measured.keys()
    found = find_newest(run, "val", predictions="people's")
    assert found is not None
    assert found.record.hypotheses == tuple(e.targets[0] for e in examples)
    again = find_newest(run, "val")
    assert own is not None and again is not None
    assert again.record.description == own.record.description

    # One whose item is in quarantine here is passed over.
    shown = coloured_things(60)
    seen = write_features(tmp_path / "seen", shown, quarantined=[str(examples[0].item_key)])
    fewer = score_predictions(run, right, "fewer", split="val", features=seen)
    assert (fewer.num_examples, fewer.num_left_out) == (len(examples) - 1, 1)

    with pytest.raises(UserError, match=f"1 examples of 'val' have none, {examples[0].id!r} first"):
        score_predictions(run, right[1:], "some", split="val")
    with pytest.raises(UserError, match="id 'who', allowed: those of 'val'"):
        score_predictions(run, [*right, Prediction("who", 1, 0.0, "x")], "more", split="val")
