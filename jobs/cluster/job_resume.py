"""Resuming in a submitted job: an attempt continues the run that an earlier attempt started."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intertitle.training.tracking.run import RunRef

# Variable with the job's name, which is the same in every attempt.
JOB_VARIABLE = "INTERTITLE_JOB"


def recording_run(
    checkpoints: Path, on_start: Callable[[RunRef], None]
) -> Callable[[RunRef], None]:
    """Wrap `on_start` so that, inside a job, the run is also recorded in the checkpoint folder.

    Args:
        checkpoints: folder of the checkpoints.
        on_start: callback that is called afterwards with the run.
    """

    def note(run: RunRef) -> None:
        if (file := _note(checkpoints)) is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_suffix(f".{run.run_id}")
            unfinished.write_text(run.run_id)
            unfinished.replace(file)
        on_start(run)

    return note


def earlier_run(checkpoints: Path) -> str | None:
    """Return the id of the run that an earlier attempt started, if it has a checkpoint."""
    note = _note(checkpoints)
    if note is None or not note.exists():
        return None
    run_id = note.read_text()
    return run_id if any((checkpoints / run_id).glob("checkpoint_*")) else None


def _note(checkpoints: Path) -> Path | None:
    if (job := os.environ.get(JOB_VARIABLE)) is None:
        return None
    # The command is part of the name, because a job may be a script that runs several trainings.
    command = hashlib.sha256(json.dumps(sys.argv[1:]).encode()).hexdigest()[:10]
    return checkpoints / f"{job}-{command}.run"
