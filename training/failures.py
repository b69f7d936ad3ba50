"""How often a training's workers may die, and what is told of those that did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray.train

from pipeline.errors import JobError, UserError
from training.checkpoint import Checkpoints


class Budget:
    """Failures that are allowed; all of them again once there is a newer checkpoint."""

    def __init__(self, checkpoints: Checkpoints, allowed: int) -> None:
        self._checkpoints, self._allowed = checkpoints, allowed
        self._newest, self._spent = self._look(), 0

    def _look(self) -> str:
        return next(iter(self._checkpoints.names()), "")

    def spend(self) -> bool:
        """Count a failure; whether it was allowed."""
        newest = self._look()
        if newest > self._newest:
            self._newest, self._spent = newest, 0
        self._spent += 1
        return self._spent <= self._allowed


class Failures(ray.train.UserCallback):  # type: ignore[misc]
    """Ends a training whose error would be the same after another start of the workers, and one
    whose workers die again and again without progress."""

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


def found_by_a_worker(error: ray.train.TrainingFailedError) -> UserError | JobError | None:
    """The mistake or the failure that a worker told of, in its own words."""
    for cause in _causes(error):
        if isinstance(cause, UserError | JobError):
            return type(cause)(str(cause))
    return None


def explain(error: ray.train.TrainingFailedError) -> JobError:
    """What went wrong, in one line."""
    return _in_one_line(_causes(error)[0])


def _in_one_line(cause: Exception) -> JobError:
    lines = str(cause).strip().splitlines() or [""]
    return JobError(f"training failed: {type(cause).__name__}: {lines[-1]}")


def _causes(error: ray.train.TrainingFailedError) -> list[Exception]:
    causes = list(getattr(error, "worker_failures", {}).values())
    return causes or [getattr(error, "controller_failure", error)]
