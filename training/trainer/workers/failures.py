"""Limits on failures of a training's workers, and the errors that are raised for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray.train

from intertitle.pipeline.errors import JobError, UserError
from intertitle.training.trainer.checkpoint import Checkpoints


class Budget:
    """Number of failures that are allowed without a newer checkpoint in between.

    Args:
        checkpoints: checkpoints of the run.
        allowed: number of failures.
    """

    def __init__(self, checkpoints: Checkpoints, allowed: int) -> None:
        self._checkpoints, self._allowed = checkpoints, allowed
        self._newest, self._spent = self._look(), 0

    def _look(self) -> str:
        return next(iter(self._checkpoints.names()), "")

    def spend(self) -> bool:
        """Count a failure, and return whether it was within the limit."""
        newest = self._look()
        if newest > self._newest:
            self._newest, self._spent = newest, 0
        self._spent += 1
        return self._spent <= self._allowed


class Failures(ray.train.UserCallback):  # type: ignore[misc]
    """Ray Train callback that ends a training which can't succeed by restarting its workers.

    These are trainings with an error that would occur again after a restart, and those whose
    workers fail repeatedly without a newer checkpoint.

    Args:
        checkpoints: checkpoints of the run.
        allowed: number of failures without a newer checkpoint.
        watchdog: actor handle of the `Watchdog`, which then forgets the failed workers.
    """

    def __init__(self, checkpoints: Checkpoints, allowed: int, watchdog: Any) -> None:
        self._budget, self._watchdog = Budget(checkpoints, allowed), watchdog

    def after_exception(
        self, run_context: object, worker_exceptions: Mapping[int, Exception]
    ) -> None:
        for error in worker_exceptions.values():
            if isinstance(error, UserError | JobError):
                raise error
        if not self._budget.spend():
            raise _in_one_line(next(iter(worker_exceptions.values())))
        self._watchdog.forget.remote()


def find_user_error(error: ray.train.TrainingFailedError) -> UserError | JobError | None:
    """Return the `UserError` or `JobError` that a worker raised, or None."""
    for cause in _causes(error):
        if isinstance(cause, UserError | JobError):
            return type(cause)(str(cause))
    return None


def explain(error: ray.train.TrainingFailedError) -> JobError:
    """Return a one-line error for a failed training."""
    return _in_one_line(_causes(error)[0])


def _in_one_line(cause: Exception) -> JobError:
    lines = str(cause).strip().splitlines() or [""]
    return JobError(f"training failed: {type(cause).__name__}: {lines[-1]}")


def _causes(error: ray.train.TrainingFailedError) -> list[Exception]:
    causes = list(getattr(error, "worker_failures", {}).values())
    return causes or [getattr(error, "controller_failure", error)]
