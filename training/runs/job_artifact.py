"""Definition of a training, logged to its run so that it can be resumed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.training.config.recipe import parse_recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import RunRef, download
from intertitle.training.trainer.workers.ray_trainer import TrainingJob

JOB_ARTIFACT, JOB_FILE = "job", "job.json"
JOB_FORMAT = FormatVersion("training job", 1)


def read_job(ref: RunRef) -> TrainingJob:
    """Read the definition of a run's training: everything but its initial weights.

    Raises:
        UserError: the run is not that of a training, or of another version of the format.
    """
    text = (download(ref, JOB_ARTIFACT) / JOB_FILE).read_text("utf-8")
    return parse_job(text, ref.run_id, f"run {ref.name}: {JOB_ARTIFACT}/{JOB_FILE}")


def parse_job(text: str, run_id: str, where: str) -> TrainingJob:
    """Parse the definition of a training; `where` is its place, for errors.

    Raises:
        UserError: it has another version of the format, or an invalid recipe.
    """
    stored = json.loads(text)
    JOB_FORMAT.check(where, stored.get(VERSION_FIELD))
    return TrainingJob(
        run_id,
        parse_recipe(stored["recipe"], where),
        stored["vocabularies"],
        DataRef.from_dict(stored["data"]),
        Path(stored["checkpoints"]),
        stored["workers"],
        init_from=stored["init_from"],
        gpus=stored["gpus"],
    )


def job_json(job: TrainingJob) -> str:
    """Return the definition of a training, for `parse_job`."""
    definition = {
        VERSION_FIELD: JOB_FORMAT.version,
        "recipe": job.recipe.model_dump(),
        "vocabularies": job.vocabularies,
        "data": asdict(job.data),
        "checkpoints": str(job.checkpoints),
        "workers": job.workers,
        "init_from": job.init_from,
        "gpus": job.gpus,
    }
    return json.dumps(definition)


def log_job(run: TrackedRun, job: TrainingJob) -> None:
    """Log the definition of a training, for `read_job`."""
    run.text(f"{JOB_ARTIFACT}/{JOB_FILE}", job_json(job))
