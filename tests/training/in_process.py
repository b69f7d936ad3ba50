"""Trainings in this process, for tests of what is before and after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch

from intertitle.training.data.dataset import Splits
from intertitle.training.runs import fit_run
from intertitle.training.trainer.checkpoint import Checkpoint, Checkpoints
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.events import Report
from intertitle.training.trainer.workers import ray_trainer
from intertitle.training.trainer.workers.ray_trainer import TrainingJob
from intertitle.training.trainer.workers.watchdog import Pulse


@contextmanager
def in_process() -> Iterator[None]:
    """Train in this process what a worker of Ray would train, which takes ten seconds to start.

    `test_ray_trainer.py` holds that the two train the same weights.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_run, "fit", _fit)
        patch.setattr(ray_trainer, "watch", lambda stop: lambda: False)
        patch.setattr(ray_trainer, "get_device", lambda: torch.device("cpu"))
        yield


@dataclass
class _Reports:
    """What a worker puts its reports into; an error of their listener ends the training later."""

    listener: Callable[[Report], None]
    error: Exception | None = None

    def put(self, report: Report) -> None:
        if self.error is None:
            try:
                self.listener(report)
            except Exception as error:
                self.error = error


def _fit(job: TrainingJob, splits: Splits, on_report: Callable[[Report], None]) -> Checkpoint:
    assert job.workers == 1
    checkpoints, reports = Checkpoints(job.checkpoints / job.run_id), _Reports(on_report)
    checkpoints.folder.mkdir(parents=True, exist_ok=True)
    ray_trainer._train(job, splits, Ranks(), Pulse(), reports, None)  # type: ignore[arg-type]
    if reports.error:
        raise reports.error
    return checkpoints.read(checkpoints.names()[0])
