"""Run the training loop on Ray Train: workers, checkpoints and failures, for 1..n workers."""

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

from intertitle.pipeline.errors import SIGTERM_EXIT_CODE, JobError, Stopped, UserError
from intertitle.pipeline.storage import failpoints
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.dataset import Splits
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.build import sizes_of
from intertitle.training.trainer.checkpoint import Checkpoint, Checkpoints, NoSpaceError
from intertitle.training.trainer.distributed import Ranks
from intertitle.training.trainer.events import CheckpointFallback, Report
from intertitle.training.trainer.loop import TrainingLoop
from intertitle.training.trainer.workers.checkpoint_writer import CheckpointWriter
from intertitle.training.trainer.workers.failures import Budget, Failures, explain, find_user_error
from intertitle.training.trainer.workers.placement import cpus_per_worker
from intertitle.training.trainer.workers.preemption import StopFlag, stop_on_signal, watch
from intertitle.training.trainer.workers.versions import check_versions, versions_here
from intertitle.training.trainer.workers.watchdog import Pulse, Watchdog, watched

# If a worker dies, the workers are restarted and the training resumes from its last checkpoint: at
# most this many times without a newer checkpoint in between.
MAX_FAILURES = 3
# Maximum number of failed starts of the workers in the whole training, for example while a node is
# missing: Ray waits a minute each time.
MAX_START_FAILURES = 60
# Total time and interval of the attempts to write the last checkpoint on a full disk.
WAIT_FOR_SPACE_S, TRY_AGAIN_S = 600.0, 5.0


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """Everything that defines a training.

    Attributes:
        run_id: id of the run; also the name of its folder of checkpoints.
        recipe: recipe of the training.
        vocabularies: vocabularies of the texts, as JSON.
        data: corpus and features.
        checkpoints: folder that every worker can access; a run's checkpoints are in a subfolder.
        workers: number of workers.
        initial: weights to initialize the model with, by name; missing ones are initialized at
            random.
        init_from: id of the run that the initial weights are from, or None.
        gpus: whether each worker has a GPU; if the cluster has too few at the moment, Ray waits.
    """

    run_id: str
    recipe: Recipe
    vocabularies: str
    data: DataRef
    checkpoints: Path
    workers: int
    initial: Mapping[str, Tensor] = field(default_factory=dict)
    init_from: str | None = None
    gpus: bool = False


def fit(job: TrainingJob, splits: Splits, on_report: Callable[[Report], None]) -> Checkpoint:
    """Train, or resume a training of the same run, until its recipe is done.

    Needs a running Ray (`ray.init`). Ray places the workers, and restarts them when they die.
    Checkpoints are written by this package, and all workers resume from the newest valid one.

    Args:
        job: training to run.
        splits: data of the training. The workers get its texts from this process; the features
            they read themselves.
        on_report: callback for reports, called on a thread of this process.

    Returns:
        The last checkpoint, which holds the best weights too.

    Raises:
        UserError: there are more workers than the cluster can place, or a worker found invalid
            input.
        JobError: the training failed.
        Stopped: by Ctrl-C; or by SIGTERM, in which case the workers write a checkpoint first.
    """
    cpus = cpus_per_worker(job.workers)
    # The actors run on the node of this process: another node's failure would end the training.
    same_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor_options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": same_node}
    reports: Queue = Queue(actor_options=actor_options)
    stop = ray.remote(**actor_options)(StopFlag).remote()
    watchdog = ray.remote(**actor_options)(Watchdog).remote(
        job.recipe.training.step_timeout_s, reports
    )
    watchdog.watch.remote()
    checkpoints = Checkpoints(job.checkpoints / job.run_id)
    trainer = TorchTrainer(
        _train_worker,
        train_loop_config={
            "job": job,
            "splits": ray.put(splits),
            "reports": reports,
            "stop": stop,
            "watchdog": watchdog,
            "num_threads": cpus,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.workers,
            use_gpu=job.gpus,
            resources_per_worker={"CPU": cpus} | ({"GPU": 1} if job.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=job.run_id,
            # Ray creates the run's folder here.
            storage_path=str(job.checkpoints),
            # Ray counts failures over the whole training; `Failures` counts those between two
            # checkpoints.
            failure_config=ray.train.FailureConfig(
                max_failures=-1, controller_failure_limit=MAX_START_FAILURES
            ),
            callbacks=[Failures(checkpoints, MAX_FAILURES, watchdog)],
            worker_runtime_env={"env_vars": failpoints.variables()},
        ),
    )
    try:
        with _Listener(reports, on_report), stop_on_signal(stop.put_up.remote) as stop_requested:
            try:
                _fit(trainer, stop_requested, checkpoints)
            except ray.train.TrainingFailedError as error:
                # Workers may fail because of the requested stop, which is no error; their own
                # `UserError` or `JobError` is raised.
                worker_error = find_user_error(error)
                if worker_error or not stop_requested.is_set():
                    raise (worker_error or explain(error)) from error
            if stop_requested.is_set():
                raise Stopped(SIGTERM_EXIT_CODE)
    except Stopped as stopped:
        raise Stopped(stopped.exit_code, resumable=bool(checkpoints.names())) from stopped
    finally:
        # The watchdog's `watch` never returns.
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(watchdog)
    if not checkpoints.names():
        raise JobError(f"run {job.run_id}: ended without a checkpoint")
    return checkpoints.read(checkpoints.names()[0])


def _fit(trainer: TorchTrainer, stop_requested: threading.Event, checkpoints: Checkpoints) -> None:
    """Train, and retry if workers die while they start.

    Ray replaces workers that die while they train, but not those that die as they start, as on a
    node that has just died and is not yet known to be dead.
    """
    budget = Budget(checkpoints, MAX_FAILURES)
    while True:
        try:
            trainer.fit()
            return
        except ray.train.ControllerError as error:
            may_pass = isinstance(error.controller_failure, ray.exceptions.RayError)
            if not may_pass or stop_requested.is_set() or not budget.spend():
                raise


class _Listener:
    """Calls a function with the reports of the workers, on a thread of its own."""

    def __init__(self, reports: Queue, on_report: Callable[[Report], None]) -> None:
        self._reports, self._on_report = reports, on_report
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        # Ray may be stopped before this thread ends.
        with contextlib.suppress(ray.exceptions.RayError):
            while (event := self._reports.get()) is not None:
                self._handle(event)

    def _handle(self, event: Report) -> None:
        if self._error is None:
            try:
                self._on_report(event)
            except Exception as error:
                # It is raised by `__exit__`, where it ends the job.
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
    """Run a training on one worker; the function that Ray Train calls."""
    job: TrainingJob = config["job"]
    torch.set_num_threads(config["num_threads"])
    context = ray.train.get_context()
    ranks, pulse = Ranks(context.get_world_rank(), context.get_world_size()), Pulse()
    with watched(config["watchdog"], ranks.rank, pulse, job.recipe.training.step_timeout_s):
        check_versions(ranks.gather(versions_here()))
        _train(job, ray.get(config["splits"]), ranks, pulse, config["reports"], config["stop"])


def _train(
    job: TrainingJob, splits: Splits, ranks: Ranks, pulse: Pulse, reports: Queue, stop: Any
) -> None:
    """Train as one of the workers."""
    vocabularies = Vocabs.from_json(job.vocabularies)
    sizes = sizes_of(vocabularies, job.data)
    loop = TrainingLoop(
        *(job.recipe, vocabularies, splits.train, splits.val, sizes, get_device(), ranks),
        *(job.initial, pulse),
    )
    checkpoints = Checkpoints(job.checkpoints / job.run_id)
    if not checkpoints.folder.is_dir():
        raise UserError(f"checkpoints: {checkpoints.folder}: not there for worker {ranks.rank}")
    if name := ranks.broadcast(_start(checkpoints, reports) if ranks.rank == 0 else None):
        loop.restore(checkpoints.read(name))

    with CheckpointWriter(checkpoints, reports.put) as writer:
        loop.run(
            reports.put if ranks.rank == 0 else lambda _: None,
            (lambda: writer.save(loop.checkpoint())) if ranks.rank == 0 else lambda: None,
            watch(stop) if ranks.rank == 0 else lambda: False,
        )
    if ranks.rank == 0 and not loop.stopped:
        _keep_last(checkpoints, loop, pulse)


def _keep_last(checkpoints: Checkpoints, loop: TrainingLoop, pulse: Pulse) -> None:
    """Write the last checkpoint; without it, all progress since the previous one would be lost.

    Raises:
        JobError: there was not enough space for `WAIT_FOR_SPACE_S` seconds.
    """
    deadline = time.monotonic() + WAIT_FOR_SPACE_S
    while True:
        # Waiting for space is not hanging.
        pulse.beat()
        try:
            checkpoints.save(loop.checkpoint())
            return
        except NoSpaceError as error:
            if time.monotonic() > deadline:
                raise JobError(f"the last checkpoint: {error}; make room, then --resume") from error
        time.sleep(TRY_AGAIN_S)


def _start(checkpoints: Checkpoints, reports: Queue) -> str | None:
    """Return the name of the checkpoint to resume from, and report newer ones that are damaged."""
    name, damages = checkpoints.newest_valid()
    if name and damages:
        reports.put(CheckpointFallback(name, damages))
    return name
