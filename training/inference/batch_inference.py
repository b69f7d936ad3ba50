"""Predict a corpus on Ray, in parts that are kept: a repeated call computes only missing parts.

The parts are Parquet files in one folder, which any Parquet reader reads as one table. The file
`_predictions.json` in the same folder describes the job that they belong to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util import ActorPool

from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.storage.format_version import VERSION_FIELD
from intertitle.pipeline.storage.paths import as_path, atomic_write, is_unfinished
from intertitle.training.evaluation.answers import Progress, no_progress
from intertitle.training.inference.corpus_job import CorpusJob
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.inference.prediction_io import (
    PREDICTIONS_FORMAT,
    Prediction,
    write_predictions,
)
from intertitle.training.inference.predictor import predict_batch
from intertitle.training.trainer.checkpoint import save_tensors
from intertitle.training.trainer.workers.placement import cpus_per_worker, trains_on_gpus

MANIFEST = "_predictions.json"
# Predictions per part: the work of a worker at a time, and what is lost if the job is killed.
PART_ANSWERS = 512
# Maximum number of times that a failed worker is restarted and computes its part again.
MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class BatchInferenceReport:
    """Counts and warnings of a batch inference job.

    Attributes:
        answered: number of examples or items that have predictions, over all parts.
        left_out: number of examples or items that were left out because the item is in quarantine.
        parts: number of parts.
        skipped: number of parts that already existed.
        warnings: warnings about truncated texts.
    """

    answered: int
    left_out: int
    parts: int
    skipped: int
    warnings: tuple[str, ...] = ()


def predict_corpus(
    trained: TrainedModel,
    job: CorpusJob,
    out: Path,
    workers: int,
    on_progress: Progress = no_progress,
) -> BatchInferenceReport:
    """Predict a corpus, or the parts of it that are missing. Needs a running Ray (`ray.init`).

    The predictions depend neither on the number of workers nor on which parts already existed.

    Args:
        trained: model that `CorpusJob.load` returns.
        job: description of the job.
        out: output folder, written by this process only: workers return their predictions to it.
        workers: number of workers; each one loads the model.
        on_progress: callback for progress, called with the number of finished inputs and the total.

    Raises:
        UserError: there are more workers than the cluster can place, the folder belongs to another
            job, or a worker raised a `UserError`.
        JobError: workers kept dying.
    """
    inputs = job.build_inputs(trained)
    ids = inputs.ids
    parts = [range(at, min(at + PART_ANSWERS, len(ids))) for at in range(0, len(ids), PART_ANSWERS)]
    _claim(out, _manifest(job, trained, len(ids)))
    files = [out / f"part-{n:05}.parquet" for n in range(len(parts))]
    missing = [
        n
        for n, (file, part) in enumerate(zip(files, parts, strict=True))
        if not _is_whole(file, ids, part)
    ]
    done = len(ids) - sum(len(parts[n]) for n in missing)
    on_progress(done, len(ids))
    if missing:
        pool = ActorPool(_start(job, workers, len(missing)))
        results = pool.map_unordered(lambda worker, n: worker.predict.remote(n, parts[n]), missing)
        try:
            for n, predictions in results:
                write_predictions(files[n], predictions)
                done += len(parts[n])
                on_progress(done, len(ids))
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from error
            raise
        except RayError as error:
            raise JobError(f"predicting: workers died: {error}") from error
    for file, part in zip(files, parts, strict=True):
        if not _is_whole(file, ids, part):
            raise JobError(f"{file}: does not hold its {len(part)} answers")
    skipped = len(parts) - len(missing)
    return BatchInferenceReport(
        len(ids), len(inputs.left_out), len(parts), skipped, inputs.warnings
    )


class _Worker:
    """Ray actor that holds the model and the inputs.

    Args:
        job: description of the job.
        num_threads: number of CPU threads that PyTorch may use.
        gpu: whether the actor has a GPU.
    """

    def __init__(self, job: CorpusJob, num_threads: int, gpu: bool) -> None:
        torch.set_num_threads(num_threads)
        self._trained, self._nbest = job.load(), job.nbest
        if gpu:
            self._trained.model.to("cuda")
        self._asked = job.build_inputs(self._trained)

    def predict(self, part: int, numbers: Sequence[int]) -> tuple[int, list[Prediction]]:
        """Predict the inputs of a part; return its number and the predictions."""
        return part, predict_batch(self._trained, self._asked, numbers, self._nbest)


def _start(job: CorpusJob, workers: int, num_parts: int) -> list[Any]:
    """Start the workers, at most one per part; they share the cluster."""
    # Check the requested number first: it is refused even if few parts are left.
    cpus_per_worker(workers)
    workers = min(workers, num_parts)
    cpus, gpu = cpus_per_worker(workers), trains_on_gpus(workers)
    # The limit grows with the number of parts: a long job loses more workers than a short one.
    actor = ray.remote(
        num_cpus=cpus,
        num_gpus=int(gpu),
        max_restarts=MAX_FAILURES * num_parts,
        max_task_retries=MAX_FAILURES,
    )(_Worker)
    return [actor.remote(job, cpus, gpu) for _ in range(workers)]


def _manifest(job: CorpusJob, trained: TrainedModel, num_answers: int) -> dict[str, Any]:
    """Return the settings that the parts of a folder depend on."""
    return {
        VERSION_FIELD: PREDICTIONS_FORMAT.version,
        "runs": [run.run_id for run in job.runs],
        # Resuming a run changes its weights and therefore its predictions.
        "weights": hashlib.sha256(save_tensors(trained.model.state_dict())).hexdigest(),
        "search": trained.recipe.search.model_dump(),
        "data": job.data.ref.facts(),
        "split": job.split,
        "question": job.question,
        "nbest": job.nbest,
        "max_source_tokens": job.max_source_tokens,
        "num_answers": num_answers,
        "part_answers": PART_ANSWERS,
    }


def _claim(out: Path, manifest: dict[str, Any]) -> None:
    """Claim the output folder: it must be new, empty or of the same job.

    Raises:
        UserError: the folder belongs to another job, has another version of the format, or holds
            other files.
    """
    file = out / MANIFEST
    entries = {*out.iterdir()} if out.is_dir() else set()
    # Left by a call that was killed while it wrote.
    unfinished = {path for path in entries if is_unfinished(path.name)}
    entries -= unfinished
    if entries == {file}:
        # A call ended before its first part, so that no part depends on its settings.
        file.unlink()
        entries = set()
    if file.is_file():
        try:
            stored = json.loads(file.read_bytes())
        except ValueError as error:
            raise UserError(f"--out: {file}: damaged: {error}; allowed: another folder") from error
        PREDICTIONS_FORMAT.check(file, stored.get(VERSION_FIELD))
        for name, value in manifest.items():
            if stored.get(name) != value:
                raise UserError(
                    f"--out: {out}: holds predictions of {name} {stored.get(name)!r}, allowed: of "
                    f"{value!r}, or another folder"
                )
    elif entries or (out.exists() and not out.is_dir()):
        raise UserError(f"--out: {out}: not a folder of predictions, allowed: one, or a new folder")
    else:
        data = json.dumps(manifest, indent=1).encode()
        atomic_write(as_path(file), lambda opened: opened.write(data))
    for path in unfinished:
        path.unlink()


def _is_whole(file: Path, ids: Sequence[str], part: range) -> bool:
    """Return whether a file exists and has a best prediction for each example of its part."""
    if not file.is_file():
        return False
    try:
        rows = pq.read_table(file, columns=["id", "rank"]).to_pylist()
    except (pa.ArrowInvalid, OSError):
        return False
    return [row["id"] for row in rows if row["rank"] == 1] == [ids[n] for n in part]
