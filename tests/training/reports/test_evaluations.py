"""Which of a run's evaluations counts."""

from __future__ import annotations

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.config.sections import SearchConfig
from intertitle.training.reports.evaluations import find_newest, read_newest
from intertitle.training.tracking.run import reopen
from tests.training.evaluations import captions, log_evaluation, log_run, spoiled

SAMPLES = captions(60)
BETTER, WORSE = spoiled(SAMPLES, 0.3, seed=1), spoiled(SAMPLES, 0.7, seed=2)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('runs')}/mlflow.db"


def test_the_newest_evaluation_of_the_split_counts(uri: str) -> None:
    run = log_run(uri, "several", WORSE)
    with reopen(run) as open_run:
        for samples, split, folder in (
            (BETTER, "val", "eval/val/beam_1/20260202T000000.000000"),
            (WORSE, "val", "eval/corpus_12345678/val/beam_9/20260101T235959.999999"),
            (SAMPLES[:5], "test", "eval/test/beam_1/20270101T000000.000000"),
        ):
            log_evaluation(open_run, samples, split, folder)
        # Not the run's own.
        folder = "eval/val/ensemble_of_2/20280101T000000.000000"
        log_evaluation(open_run, SAMPLES, "val", folder, other_run_ids=["another"])
    assert find_newest(run, "val", search=SearchConfig(beam_size=9)) is None
    # The name of a folder above all of them, and of no split.
    assert find_newest(run, "eval") is None
    assert read_newest(run, "val").record.hypotheses == tuple(s.hypothesis for s in BETTER)
    assert len(read_newest(run, "test").record.ids) == 5
    assert read_newest(run, "val", "f").record.hypotheses == tuple(s.hypothesis for s in BETTER)
    with pytest.raises(UserError, match="several: keeps no examples of 'val'"):
        read_newest(run, "val", "another corpus")


def test_a_run_that_was_not_measured_is_told_how_to(uri: str) -> None:
    first = log_run(uri, "first", WORSE)
    with pytest.raises(
        UserError, match="first: keeps no examples of 'test'; `intertitle evaluate first"
    ):
        read_newest(first, "test")
