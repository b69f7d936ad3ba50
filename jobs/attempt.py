"""Inside a submitted job: what an attempt began, the next one goes on with."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.tracking.run import RunRef

# The job's name, the same in every attempt.
JOB_VARIABLE = "INTERTITLE_JOB"


def remembering(checkpoints: Path, on_start: Callable[[RunRef], None]) -> Callable[[RunRef], None]:
    """`on_start` that, inside a job, notes the run beside its checkpoints too."""

    def note(run: RunRef) -> None:
        if (file := _note(checkpoints)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            whole = file.with_suffix(f".{run.run_id}")
            whole.write_text(run.run_id)
            whole.replace(file)
        on_start(run)

    return note


def earlier_run(checkpoints: Path) -> str | None:
    """The id of the run that an earlier attempt at this command began, if it has a checkpoint."""
    note = _note(checkpoints)
    if note is None or not note.exists():
        return None
    run_id = note.read_text()
    return run_id if any((checkpoints / run_id).glob("checkpoint_*")) else None


def _note(checkpoints: Path) -> Path | None:
    if (job := os.environ.get(JOB_VARIABLE)) is None:
        return None
    # A job may be a script of several trainings.
    command = hashlib.sha256(json.dumps(sys.argv[1:]).encode()).hexdigest()[:10]
    return checkpoints / f"{job}-{command}.run"
