"""The training loop on Ray Train: workers, checkpoints, failures; 1..n workers, the same code."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue

from pipeline.errors import JobError, UserError
from training.checkpoint import Checkpoint
from training.config import Recipe
from training.data.dataset import Dataset, DataSource, check_unchanged
from training.data.tokenizer import WordTokenizer
from training.loop import Ranks, Report, TrainingLoop

# A worker that dies is replaced, and the training goes on from its last checkpoint, so many times.
MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What a training is made of.

    Attributes:
        run_id: of the run it belongs to; its checkpoints bear this name.
        recipe: what to do.
        tokenizer: of the words, as JSON.
        data: the corpus and the features.
        checkpoints: a folder that every worker reaches.
        workers: their number.
    """

    run_id: str
    recipe: Recipe
    tokenizer: str
    data: DataSource
    checkpoints: Path
    workers: int


def fit(job: TrainingJob, on_report: Callable[[Report], None]) -> Checkpoint:
    """Train, or go on with a training of the same run, until its recipe is done.

    Needs a running Ray (`ray.init`).

    Args:
        job: what to train.
        on_report: told how it goes, on a thread of this process.

    Returns:
        The last checkpoint, which holds the best weights too.

    Raises:
        UserError: more workers than the cluster can place, or a mistake that a worker found.
        JobError: the training failed.
    """
    use_gpu = ray.cluster_resources().get("GPU", 0) >= job.workers
    cpus = cpus_per_worker(job.workers)
    reports: Queue = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={"job": job, "reports": reports, "num_threads": cpus},
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": cpus} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=job.run_id,
            storage_path=str(job.checkpoints.absolute()),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            failure_config=ray.train.FailureConfig(
                max_failures=MAX_FAILURES, controller_failure_limit=MAX_FAILURES
            ),
        ),
    )
    with _Listener(reports, on_report):
        try:
            with _interruptible():
                result = trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _explain(error) from error
    if result.checkpoint is None:
        raise JobError(f"run {job.run_id}: ended without a checkpoint")
    with result.checkpoint.as_directory() as folder:
        return Checkpoint.read(Path(folder))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C as ever: Ray answers it by leaving with exit code 0, and keeps its handler after."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as left:
        raise KeyboardInterrupt from left
    finally:
        signal.signal(signal.SIGINT, handler)


def cpus_per_worker(workers: int) -> int:
    """The most cores that each of so many workers can have at once, wherever Ray places them.

    Raises:
        UserError: they are more than the cluster's cores.
    """
    nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise UserError(f"workers: {workers}, allowed: at most {sum(nodes)}, one a core of the cluster")


def _explain(error: ray.train.TrainingFailedError) -> Exception:
    """What went wrong, in one line."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [error]
    for cause in causes:
        if isinstance(cause, UserError | JobError):
            return type(cause)(str(cause))
    lines = str(causes[0]).strip().splitlines() or [""]
    return JobError(f"training failed: {type(causes[0]).__name__}: {lines[-1]}")


class _Listener:
    """Hands what workers report to a function, on a thread of its own."""

    def __init__(self, reports: Queue, on_report: Callable[[Report], None]) -> None:
        self._reports, self._on_report = reports, on_report
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        while (report := self._reports.get()) is not None:
            if self._error is None:
                try:
                    self._on_report(report)
                except Exception as error:
                    # Raised where the job can end by it.
                    self._error = error

    def __enter__(self) -> _Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._reports.put(None)
        self._thread.join()
        self._reports.shutdown()
        if self._error is not None:
            raise self._error


def _train_worker(config: dict[str, Any]) -> None:
    """What each worker runs."""
    job: TrainingJob = config["job"]
    reports: Queue = config["reports"]
    torch.set_num_threads(config["num_threads"])
    context = ray.train.get_context()
    check_unchanged(job.data)
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    tokenizer = WordTokenizer.from_json(job.tokenizer)
    train, val = (
        Dataset(job.data, split, tokenizer, job.recipe.tokenizer.max_words)
        for split in ("train", "val")
    )
    loop = TrainingLoop(
        job.recipe, tokenizer, train, val, job.data.feature_dim, get_device(), ranks
    )
    if (last := ray.train.get_checkpoint()) is not None:
        with last.as_directory() as folder:
            loop.restore(Checkpoint.read(Path(folder)))

    def keep_checkpoint() -> None:
        # A barrier for all workers; the first brings the checkpoint.
        if ranks.rank:
            ray.train.report({})
            return
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "checkpoint"
            loop.checkpoint().write(folder)
            ray.train.report({}, checkpoint=ray.train.Checkpoint.from_directory(os.fspath(folder)))

    loop.run(reports.put if ranks.rank == 0 else lambda _: None, keep_checkpoint)
