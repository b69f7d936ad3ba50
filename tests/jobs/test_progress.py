"""What a person is told of a training."""

from __future__ import annotations

import pytest

from intertitle.jobs import console
from intertitle.jobs.progress import TrainingProgress
from intertitle.training.trainer.events import (
    CheckpointFallback,
    EpochReport,
    NotKept,
    Report,
    SkippedStep,
    Warned,
    WorkerHung,
)


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (
            EpochReport(2, 9, {"train/nats_per_token": 1.5, "val/cider": 0.25}, True, ()),
            "epoch 2: 1.500 nats a token in training; validation: cider 0.25 (best so far)",
        ),
        (
            EpochReport(2, 9, {"val/bleu_4": 9.796e-12}, False, (), "greedy search"),
            "epoch 2: no step in training; validation (greedy search): bleu_4 0.00",
        ),
        (
            EpochReport(2, 9, {"val/cider": 0.25}, False, ()),
            "epoch 2: no step in training; validation: cider 0.25",
        ),
        (Warned("2 sources were cut"), "WARNING: 2 sources were cut"),
        (SkippedStep(1, 7), "WARNING: step 7: its loss or gradient is not finite; skipped"),
        (
            NotKept(7, "/kept/checkpoint: No space left on device"),
            "WARNING: step 7: no checkpoint: /kept/checkpoint: No space left on device; going on, "
            "make room",
        ),
        (
            WorkerHung(1, 7, 1801.2),
            "WARNING: worker 1 made no progress in step 7 for 1801 s (training.step_timeout_s); "
            "going on from the last checkpoint",
        ),
        (
            CheckpointFallback("checkpoint_1", ("checkpoint_2: damaged",)),
            "WARNING: checkpoint_2: damaged; going on from checkpoint_1",
        ),
    ],
)
def test_a_report_is_one_line(
    report: Report, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    TrainingProgress(console.Bar(None, None, "training")).on_report(report)
    assert capsys.readouterr().err.splitlines() == [told]
