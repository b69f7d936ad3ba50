"""Definition of a training, logged to its run so that it can be resumed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from intertitle.training.config.recipe import parse_recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import RunRef, download
from intertitle.training.trainer.workers.ray_trainer import TrainingJob

JOB_ARTIFACT = "job"


def read_job(ref: RunRef) -> TrainingJob:
    """Read the definition of a run's training: everything but its initial weights.

    Raises:
        UserError: the run is not that of a training.
    """
    stored = json.loads((download(ref, JOB_ARTIFACT) / "job.json").read_text("utf-8"))
    return TrainingJob(
        ref.run_id,
        parse_recipe(stored["recipe"], f"run {ref.name}"),
        stored["vocabularies"],
        DataRef.from_dict(stored["data"]),
        Path(stored["checkpoints"]),
        stored["workers"],
        init_from=stored["init_from"],
        gpus=stored["gpus"],
    )


def log_job(run: TrackedRun, job: TrainingJob) -> None:
    """Log the definition of a training, for `read_job`."""
    definition = {
        "recipe": job.recipe.model_dump(),
        "vocabularies": job.vocabularies,
        "data": asdict(job.data),
        "checkpoints": str(job.checkpoints),
        "workers": job.workers,
        "init_from": job.init_from,
        "gpus": job.gpus,
    }
    run.text(f"{JOB_ARTIFACT}/job.json", json.dumps(definition))
