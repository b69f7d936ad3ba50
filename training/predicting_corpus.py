"""A whole corpus answered on Ray, in parts that stay: a call again does only what is missing.

The parts are Parquet files in one folder, which any reader of Parquet reads as one table; beside
them `_predictions.json` says what they are of.
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

from pipeline.errors import JobError, UserError
from training.checkpoint import save_tensors
from training.corpus_job import CorpusJob
from training.evaluation.evaluate import Progress, quiet
from training.placement import cpus_per_worker, on_gpus
from training.prediction import tell
from training.predictions import Prediction, write_predictions
from training.trained import TrainedModel

MANIFEST = "_predictions.json"
# Answers of a part: what is lost when all is killed, and what a worker takes at once.
PART_ANSWERS = 512
# A worker that dies is replaced, and tells its part again, so many times.
MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What came of it.

    Attributes:
        answered: examples or items, in all parts.
        left_out: whose item is in quarantine.
        parts: all of them.
        skipped: parts that were there.
        warnings: of texts that were cut.
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
    on_progress: Progress = quiet,
) -> CorpusReport:
    """Answer a corpus, or what of it is missing. Needs a running Ray (`ray.init`).

    What is told of an example hangs neither on the number of workers nor on what was there.

    Args:
        trained: what `CorpusJob.load` gives.
        job: what to answer.
        out: a folder, of this process alone: workers send what they tell.
        workers: each holds the model.
        on_progress: told how many are done, of how many.

    Raises:
        UserError: more workers than the cluster can place, a folder of something else, or what a
            worker found.
        JobError: workers died again and again.
    """
    asked = job.ask(trained)
    ids = asked.ids
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
        told = pool.map_unordered(lambda worker, n: worker.tell.remote(n, parts[n]), missing)
        try:
            for n, predictions in told:
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
    return CorpusReport(len(ids), len(asked.left_out), len(parts), skipped, asked.warnings)


class _Worker:
    """Holds the model and the questions; lives in a Ray actor.

    Args:
        job: what is answered.
        num_threads: that it may use.
        gpu: whether it has one.
    """

    def __init__(self, job: CorpusJob, num_threads: int, gpu: bool) -> None:
        torch.set_num_threads(num_threads)
        self._trained, self._nbest = job.load(), job.nbest
        if gpu:
            self._trained.model.to("cuda")
        self._asked = job.ask(self._trained)

    def tell(self, part: int, numbers: Sequence[int]) -> tuple[int, list[Prediction]]:
        """The number of a part, and what is told of it."""
        return part, tell(self._trained, self._asked, numbers, self._nbest)


def _start(job: CorpusJob, workers: int, num_parts: int) -> list[Any]:
    """So many workers, but not more than there are parts: those share the cluster."""
    # More than there can be are refused, however little is left to do.
    cpus_per_worker(workers)
    workers = min(workers, num_parts)
    cpus, gpu = cpus_per_worker(workers), on_gpus(workers)
    # Each part has its own few failures: a long job loses more workers than a short one.
    actor = ray.remote(
        num_cpus=cpus,
        num_gpus=int(gpu),
        max_restarts=MAX_FAILURES * num_parts,
        max_task_retries=MAX_FAILURES,
    )(_Worker)
    return [actor.remote(job, cpus, gpu) for _ in range(workers)]


def _manifest(job: CorpusJob, trained: TrainedModel, num_answers: int) -> dict[str, Any]:
    """What the parts of a folder are of: with another of these they would be others."""
    return {
        "runs": [run.run_id for run in job.runs],
        # A run that was resumed tells otherwise.
        "weights": hashlib.sha256(save_tensors(trained.model.state_dict())).hexdigest(),
        "search": trained.recipe.search.model_dump(),
        "data": job.data.facts(),
        "split": job.split,
        "question": job.question,
        "nbest": job.nbest,
        "max_source_tokens": job.max_source_tokens,
        "num_answers": num_answers,
        "part_answers": PART_ANSWERS,
    }


def _claim(out: Path, manifest: dict[str, Any]) -> None:
    """Take a folder that is new, empty or of the same job.

    Raises:
        UserError: it is of something else.
    """
    file, scratch = out / MANIFEST, out / f"{MANIFEST}.part"
    # Of a call that made nothing, because it was a mistake or was killed, these may be left.
    if out.is_dir() and {*out.iterdir()} <= {file, scratch}:
        file.unlink(missing_ok=True)
    if file.is_file():
        try:
            found = json.loads(file.read_bytes())
        except ValueError as error:
            raise UserError(f"--out: {file}: damaged: {error}; allowed: another folder") from error
        for name, value in manifest.items():
            if found.get(name) != value:
                raise UserError(
                    f"--out: {out}: holds predictions of {name} {found.get(name)!r}, allowed: of "
                    f"{value!r}, or another folder"
                )
        return
    if out.exists() and not (out.is_dir() and {*out.iterdir()} <= {scratch}):
        raise UserError(f"--out: {out}: not a folder of predictions, allowed: one, or a new folder")
    out.mkdir(parents=True, exist_ok=True)
    scratch.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    scratch.replace(file)


def _is_whole(file: Path, ids: Sequence[str], part: range) -> bool:
    """Whether a file is there and has the best of each example of its part."""
    if not file.is_file():
        return False
    try:
        rows = pq.read_table(file, columns=["id", "rank"]).to_pylist()
    except (pa.ArrowInvalid, OSError):
        return False
    return [row["id"] for row in rows if row["rank"] == 1] == [ids[n] for n in part]
