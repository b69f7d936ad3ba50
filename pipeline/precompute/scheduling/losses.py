"""Errors of lost workers, and the end of retries."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.errors import JobError, one_line
from intertitle.pipeline.precompute.scheduling.budget import Budget
from intertitle.pipeline.precompute.work import DecodedItem, Rejection, rejected

# Errors after which the writer is lost, but the features that it wrote are still available.
LOST_WRITER = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)


def give_up(
    budget: Budget, sources: Sequence[ItemFile], stage: str, error: ray.exceptions.RayError
) -> list[DecodedItem]:
    """Return items as rejected because their workers were lost repeatedly.

    The next call tries them again.

    Raises:
        JobError: no other work finishes either, so these items are not the cause.
    """
    if not budget.may_give_up:
        raise JobError(stalled(budget, error)) from error
    line = f"its workers were lost again and again, lastly: {last_line(error)}"
    return [
        rejected(source, Rejection(stage, "killed", one_line(f"{source.item.key}: {line}")))
        for source in sources
    ]


def stalled(budget: Budget, error: ray.exceptions.RayError) -> str:
    """Describe that workers are lost and nothing finishes."""
    return (
        f"workers are lost and nothing is finished in {budget.stalled_s:g} s, lastly: "
        f"{last_line(error)}"
    )


def last_line(error: Exception) -> str:
    """Return the class and the last line of an error's cause."""
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {(str(cause).strip().splitlines() or ['?'])[-1]}"


def is_defect(error: Exception) -> bool:
    """Return whether the program failed rather than the machine that it ran on."""
    cause = getattr(error, "cause", None)
    failed = isinstance(error, ray.exceptions.RayTaskError)
    return failed and not isinstance(cause, ray.exceptions.RayError)
