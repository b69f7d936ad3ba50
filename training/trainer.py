"""The training loop on Ray Train: workers, checkpoints, failures; 1..n workers, the same code."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from torch import Tensor

from pipeline import failpoints
from pipeline.errors import SIGTERM_EXIT_CODE, JobError, Stopped, UserError
from training.checkpoint import Checkpoint, Checkpoints, NoSpaceError
from training.config import Recipe
from training.data.dataset import open_dataset
from training.data.pinning import check_there
from training.data.source import DataSource
from training.data.vocabularies import Vocabularies
from training.failures import Budget, Failures, explain, found_by_a_worker
from training.loop import TrainingLoop
from training.models.build import task_of
from training.placement import cpus_per_worker, on_gpus
from training.ranks import Ranks
from training.reports import FellBack, NotKept, Report
from training.stopping import StopSign, stopping, watch
from training.trained import sizes_of
from training.versions import check_versions, versions_here
from training.watchdog import Pulse, Watchdog, watched

# A worker that dies is replaced, and the training goes on from its last checkpoint: so many times
# without a newer checkpoint in between.
MAX_FAILURES = 3
# In all, where workers can't be started for want of a node: Ray waits a minute each time.
MAX_START_FAILURES = 60
# For the last checkpoint a full disk is tried again for so long, and after so long.
WAIT_FOR_SPACE_S, TRY_AGAIN_S = 600.0, 5.0


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What a training is made of.

    Attributes:
        run_id: of the run it belongs to; its checkpoints bear this name.
        recipe: what to do.
        vocabularies: of the texts, as JSON.
        data: the corpus and the features.
        checkpoints: a folder that every worker reaches.
        workers: their number.
        initial: weights to begin with; those it lacks are drawn.
        init_from: the id of the run that those are of.
    """

    run_id: str
    recipe: Recipe
    vocabularies: str
    data: DataSource
    checkpoints: Path
    workers: int
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    init_from: str | None = None


def fit(job: TrainingJob, on_report: Callable[[Report], None]) -> Checkpoint:
    """Train, or go on with a training of the same run, until its recipe is done.

    Needs a running Ray (`ray.init`). Ray places the workers and replaces them when they die; the
    checkpoints are this project's own, and all workers go on from the newest that is whole.

    Args:
        job: what to train.
        on_report: told how it goes, on a thread of this process.

    Returns:
        The last checkpoint, which holds the best weights too.

    Raises:
        UserError: more workers than the cluster can place, or a mistake that a worker found.
        JobError: the training failed.
        Stopped: by Ctrl-C; or by SIGTERM, after which the workers keep a checkpoint first.
    """
    use_gpu = on_gpus(job.workers)
    cpus = cpus_per_worker(job.workers)
    # Beside this process: on another node they would take the training along when it dies.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    beside: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": here}
    reports: Queue = Queue(actor_options=beside)
    stop = ray.remote(**beside)(StopSign).remote()
    watchdog = ray.remote(**beside)(Watchdog).remote(job.recipe.training.step_timeout_s, reports)
    watchdog.watch.remote()
    checkpoints = Checkpoints(job.checkpoints / job.run_id)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={
            "job": job,
            "reports": reports,
            "stop": stop,
            "watchdog": watchdog,
            "num_threads": cpus,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers,
            use_gpu=use_gpu,
            resources_per_worker={"CPU": cpus} | ({"GPU": 1} if use_gpu else {}),
        ),
        run_config=ray.train.RunConfig(
            name=job.run_id,
            # Ray makes the run's folder here.
            storage_path=str(job.checkpoints),
            # Ray counts over the whole of a training; how many may come between two checkpoints
            # is counted by `Failures`.
            failure_config=ray.train.FailureConfig(
                max_failures=-1, controller_failure_limit=MAX_START_FAILURES
            ),
            callbacks=[Failures(checkpoints, MAX_FAILURES, watchdog)],
            worker_runtime_env={"env_vars": failpoints.variables()},
        ),
    )
    try:
        with _Listener(reports, on_report), stopping(stop.put_up.remote) as told:
            try:
                _fit(trainer, told, checkpoints)
            except ray.train.TrainingFailedError as error:
                # Workers that are asked to stop may die of it; what they found themselves is told.
                found = found_by_a_worker(error)
                if found or not told.is_set():
                    raise (found or explain(error)) from error
            if told.is_set():
                raise Stopped(SIGTERM_EXIT_CODE)
    except Stopped as stopped:
        raise Stopped(stopped.exit_code, resumable=bool(checkpoints.names())) from stopped
    finally:
        # It would watch for ever.
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(watchdog)
    if not checkpoints.names():
        raise JobError(f"run {job.run_id}: ended without a checkpoint")
    return checkpoints.read(checkpoints.names()[0])


def _fit(trainer: TorchTrainer, told: threading.Event, checkpoints: Checkpoints) -> None:
    """Train. Ray replaces workers that die while they train, but not those that die as they start:
    on a node that is not known to be dead yet."""
    budget = Budget(checkpoints, MAX_FAILURES)
    while True:
        try:
            trainer.fit()
            return
        except ray.train.ControllerError as error:
            may_pass = isinstance(error.controller_failure, ray.exceptions.RayError)
            if not may_pass or told.is_set() or not budget.spend():
                raise


class _Listener:
    """Hands what workers report to a function, on a thread of its own."""

    def __init__(self, reports: Queue, on_report: Callable[[Report], None]) -> None:
        self._reports, self._on_report = reports, on_report
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        # Ray itself may be stopped before this is.
        with contextlib.suppress(ray.exceptions.RayError):
            while (event := self._reports.get()) is not None:
                self._hear(event)

    def _hear(self, event: Report) -> None:
        if self._error is None:
            try:
                self._on_report(event)
            except Exception as error:
                # Raised where the job can end by it.
                self._error = error

    def __enter__(self) -> _Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            self._reports.put(None)
            self._thread.join()
            self._reports.shutdown()
        if self._error is not None:
            raise self._error


def _train_worker(config: dict[str, Any]) -> None:
    """What each worker runs."""
    job: TrainingJob = config["job"]
    torch.set_num_threads(config["num_threads"])
    context = ray.train.get_context()
    ranks, pulse = Ranks(context.get_world_rank(), context.get_world_size()), Pulse()
    with watched(config["watchdog"], ranks.rank, pulse, job.recipe.training.step_timeout_s):
        check_versions(ranks.gather(versions_here()))
        check_there(job.data)
        _train(job, ranks, pulse, config["reports"], config["stop"])


def _train(job: TrainingJob, ranks: Ranks, pulse: Pulse, reports: Queue, stop: Any) -> None:
    """Train as one of the workers."""
    vocabularies = Vocabularies.from_json(job.vocabularies)
    task = task_of(job.recipe.model)
    train, val = (
        open_dataset(job.data, split, job.recipe, task, vocabularies) for split in ("train", "val")
    )
    sizes = sizes_of(vocabularies, job.data)
    loop = TrainingLoop(
        job.recipe, vocabularies, train, val, sizes, get_device(), ranks, job.initial, pulse
    )
    checkpoints = Checkpoints(job.checkpoints / job.run_id)
    if not checkpoints.folder.is_dir():
        raise UserError(f"checkpoints: {checkpoints.folder}: not there for worker {ranks.rank}")
    if name := ranks.from_first(_start(checkpoints, reports) if ranks.rank == 0 else None):
        loop.restore(checkpoints.read(name))

    def keep_checkpoint() -> None:
        if ranks.rank == 0:
            try:
                checkpoints.keep(loop.checkpoint())
            except NoSpaceError as error:
                reports.put(NotKept(loop.progress.step, str(error)))

    loop.run(
        reports.put if ranks.rank == 0 else lambda _: None,
        keep_checkpoint,
        watch(stop) if ranks.rank == 0 else lambda: False,
    )
    if ranks.rank == 0 and not loop.stopped:
        _keep_last(checkpoints, loop)


def _keep_last(checkpoints: Checkpoints, loop: TrainingLoop) -> None:
    """Have the last checkpoint kept, without which all since the one before is lost.

    Raises:
        JobError: for a long time there was no space.
    """
    deadline = time.monotonic() + WAIT_FOR_SPACE_S
    while True:
        try:
            checkpoints.keep(loop.checkpoint())
            return
        except NoSpaceError as error:
            if time.monotonic() > deadline:
                raise JobError(f"the last checkpoint: {error}; make room, then --resume") from error
        time.sleep(TRY_AGAIN_S)


def _start(checkpoints: Checkpoints, reports: Queue) -> str | None:
    """The checkpoint that all workers go on from."""
    name, damages = checkpoints.newest_whole()
    if name and damages:
        reports.put(FellBack(name, damages))
    return name
