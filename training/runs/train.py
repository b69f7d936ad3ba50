"""Train a recipe as a new MLflow run that this process logs to, or resume a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe, parse_recipe, scale_to_workers
from intertitle.training.data.data_ref import Data, StorePaths, open_data
from intertitle.training.data.dataset import Dataset, Splits, open_splits
from intertitle.training.data.pinning import check_there, pinned, unpin_data
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.evaluation.phase import Phase
from intertitle.training.evaluation.scorers import make_scorer
from intertitle.training.inference.warm_start import Transfer
from intertitle.training.models.build import sizes_of, task_of
from intertitle.training.models.check_recipe import check_recipe
from intertitle.training.runs.fit_run import TrainingResult, fit_run
from intertitle.training.runs.initial_weights import initial_weights
from intertitle.training.runs.job_artifact import log_job, read_job
from intertitle.training.tracking.run import TrackedRun, reopen
from intertitle.training.tracking.store.client import RunRef, check_store, resolve_run
from intertitle.training.tracking.store.run_list import EXPERIMENT
from intertitle.training.trainer.events import Report, Warned
from intertitle.training.trainer.run_description import inputs_of, params_of
from intertitle.training.trainer.workers.placement import cpus_per_worker, trains_on_gpus
from intertitle.training.trainer.workers.ray_trainer import TrainingJob


def train(
    recipe: Recipe,
    corpus: UPath | Path,
    features: StorePaths = None,
    *,
    workers: int,
    tracking_uri: str,
    checkpoints: Path,
    name: str | None = None,
    init_from: str | None = None,
    tags: Mapping[str, str] | None = None,
    pin: str | None = None,
    on_start: Callable[[RunRef], None] = lambda _: None,
    on_transfer: Callable[[Transfer], None] = lambda _: None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> TrainingResult:
    """Train a recipe on a corpus, as a new run.

    The corpus and the snapshots of the features are pinned until the run is finished: after a stop
    it can resume with the same data, even if more has been added since.

    Args:
        recipe: recipe of the training.
        corpus: folder or URL of a corpus, with splits "train" and "val".
        features: feature stores made from the corpus; None for a recipe that reads text only.
        workers: number of workers.
        tracking_uri: tracking URI of MLflow.
        checkpoints: folder that every worker can access.
        name: name of the run; None makes one from the recipe's name and the time.
        init_from: run, name of a run, or model of the registry, whose weights initialize the model
            as far as they fit.
        tags: tags of the run, in addition to those that are set here.
        pin: name of the pins of data that the caller has pinned, and unpins; None pins the current
            data.
        on_start: callback for the run, called as soon as it exists.
        on_transfer: callback for the weights that are taken from `init_from`.
        on_report: callback for progress events.

    Returns:
        The run and its evaluation.

    Raises:
        UserError: the data or the settings are invalid.
        JobError: the training failed; the run is marked as failed too.
    """
    recipe = scale_to_workers(recipe, workers)
    task = task_of(recipe.model)
    run_name = name or f"{recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"
    on_report(Phase("reading the corpus and the features"))
    check_store(tracking_uri)
    with pinned(corpus, features, run_name, pin) as pins:
        data = open_data(corpus, features, task.visual_input, pins.name)
        vocabularies = build_vocabs(recipe, *texts_of(data.corpus, "train", task))
        # Invalid input raises an error here, before a run is created.
        check_recipe(recipe)
        cpus_per_worker(workers)
        splits = open_splits(data, recipe, task, vocabularies)
        warnings = _warn(splits, recipe, on_report)
        sizes = sizes_of(vocabularies, data.ref)
        all_tags = {**(tags or {}), "recipe": recipe.name}
        if warnings:
            all_tags["warnings"] = "; ".join(warnings)
        params = params_of(recipe, sizes, workers)
        source = None if init_from is None else resolve_run(init_from, tracking_uri)
        initial = initial_weights(recipe, vocabularies, data.ref, source)
        params |= initial.params
        if source is not None:
            all_tags["init_from"] = params["init_from"] = source.run_id
        if initial.transfer:
            on_transfer(initial.transfer)
        run = TrackedRun.start(
            tracking_uri,
            EXPERIMENT,
            run_name,
            params=params,
            tags=all_tags,
            inputs=inputs_of(data),
            checkpoints=checkpoints,
        )
        # An absolute path, because workers have other working directories.
        checkpoints_root = checkpoints.absolute()
        pins.checkpoints = checkpoints_root / run.run_id
        job = TrainingJob(
            run.run_id,
            recipe,
            vocabularies.to_json(),
            data.ref,
            checkpoints_root,
            workers,
            initial.tensors,
            all_tags.get("init_from"),
            trains_on_gpus(workers),
        )
        with run:
            run.environment()
            log_job(run, job)
            if initial.transfer:
                run.text("transfer.json", initial.transfer.to_json())
            on_start(run.ref)
            return fit_run(job, data, splits, run, on_report)


def _warn(splits: Splits, recipe: Recipe, on_report: Callable[[Report], None]) -> list[str]:
    """Report and return warnings about ignored data, and about scores that mean little.

    Raises:
        UserError: the tokenizer of the metrics is not available.
    """
    train, val = splits.train, splits.val
    if not (isinstance(train, Dataset) and isinstance(val, Dataset)):
        return []
    scorer = make_scorer(val, recipe.evaluation)
    warnings = [*train.warnings, *val.warnings, *scorer.warnings]
    for warning in warnings:
        on_report(Warned(warning))
    return warnings


def resume(
    spec: str,
    *,
    tracking_uri: str,
    changes: Mapping[str, int | None],
    workers: int | None = None,
    unpin: bool = True,
    on_start: Callable[[RunRef], None] = lambda _: None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> TrainingResult:
    """Resume a training that was stopped, as the same run, from its last checkpoint.

    Args:
        spec: run, name of a run, or model of the registry.
        tracking_uri: tracking URI of MLflow.
        changes: new values for fields of the recipe's training section: `epochs`, `max_steps`.
        workers: new number of workers, or None.
        unpin: whether to unpin the data of the run when it is finished.
        on_start: callback for the run.
        on_report: callback for progress events.

    Returns:
        The run and its evaluation.

    Raises:
        UserError: the run does not exist, or its data has changed since and was not pinned.
        JobError: the training failed.
    """
    ref = resolve_run(spec, tracking_uri)
    job = read_job(ref)
    settings = job.recipe.training.model_dump() | dict(changes)
    recipe = parse_recipe(job.recipe.model_dump() | {"training": settings}, "--set")
    check_recipe(recipe)
    data = Data(job.data)
    check_there(data)
    job = replace(job, recipe=recipe, workers=workers or job.workers)
    cpus_per_worker(job.workers)
    if job.gpus:
        trains_on_gpus(job.workers, required=True)
    if not any((job.checkpoints / ref.run_id).glob("checkpoint_*")):
        raise UserError(f"run {ref.name}: no checkpoints in {job.checkpoints / ref.run_id}")
    with reopen(ref, running=True) as run:
        log_job(run, job)
        on_start(ref)
        on_report(Phase("reading the corpus and the features"))
        vocabularies = Vocabs.from_json(job.vocabularies)
        splits = open_splits(data, recipe, task_of(recipe.model), vocabularies)
        _warn(splits, recipe, on_report)
        result = fit_run(job, data, splits, run, on_report)
    if unpin:
        unpin_data(job.data)
    return result
