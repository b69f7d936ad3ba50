"""Limits for steps whose loss or gradient is not finite.

Such a step is skipped and counted; too many of them end the training.
"""

from __future__ import annotations

from dataclasses import replace

from intertitle.pipeline.errors import JobError
from intertitle.training.trainer.checkpoint import Progress

MAX_SKIPPED_IN_A_ROW = 10
# The limit for the whole training: a share of the steps so far, but at least MIN_SKIPPED.
MAX_SKIPPED_SHARE, MIN_SKIPPED = 0.05, 20


def count_step(progress: Progress) -> Progress:
    """Count a step that updated the weights."""
    return replace(progress, step=progress.step + 1, skipped_in_a_row=0)


def count_skipped(progress: Progress) -> Progress:
    """Count a step that was skipped.

    Raises:
        JobError: too many steps were skipped, in a row or in total.
    """
    progress = replace(
        progress,
        step=progress.step + 1,
        skipped=progress.skipped + 1,
        skipped_in_a_row=progress.skipped_in_a_row + 1,
    )
    allowed = max(MIN_SKIPPED, int(MAX_SKIPPED_SHARE * progress.step))
    in_a_row = progress.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW
    if in_a_row or progress.skipped > allowed:
        how_many = (
            f"{progress.skipped_in_a_row} steps in a row"
            if in_a_row
            else f"{progress.skipped} of {progress.step} steps"
        )
        raise JobError(
            f"step {progress.step}: {how_many} had a loss or a gradient that is not finite: the "
            "training has diverged; a smaller optimizer.learning_rate or optimizer.clip_norm may "
            "help"
        )
    return progress
