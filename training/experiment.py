"""A training from its command to its scores: one job, one MLflow run, logged by this process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import torch
from upath import UPath

from pipeline.errors import UserError
from training.check import check_recipe
from training.checkpoint import Checkpoint
from training.config import Recipe, parse_recipe
from training.data.dataset import Dataset, open_dataset
from training.data.pinning import check_there, pinned, unpin_data
from training.data.source import DataSource, describe_data, lines_of, texts_of
from training.data.task import Task
from training.data.vocabularies import Vocabularies, train_vocabularies
from training.description import inputs_of, params_of
from training.diagnostics import compare_on_text
from training.evaluation.evaluate import Evaluation, make_scorer
from training.models.build import build_model, task_of
from training.models.language_model import LanguageModel
from training.placement import cpus_per_worker
from training.reports import EpochReport, FellBack, Report, Warned
from training.scoring import MODEL_ARTIFACT, load_trained, log_evaluation, measure, sample_row
from training.tracking.plots import gradient_flow_plot, learning_curves
from training.tracking.run import RunRef, TrackedRun, download, reopen, resolve_run
from training.tracking.served import write_mlflow_model
from training.tracking.store import check_store
from training.trained import TrainedModel, sizes_of
from training.trainer import TrainingJob, fit
from training.transfer import Transfer, transfer

EXPERIMENT = "intertitle"
JOB_ARTIFACT = "job"
SAMPLES_TABLE = "samples_by_epoch"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training came to.

    Attributes:
        run: where all of it is logged.
        evaluation: of the best weights, on the validation split.
        num_epochs: it took.
        best_epoch: whose weights were kept, counted from 1.
    """

    run: RunRef
    evaluation: Evaluation
    num_epochs: int
    best_epoch: int


def train(
    recipe: Recipe,
    corpus: UPath | Path,
    features: UPath | Path | None,
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

    The corpus and the snapshot of the features are pinned until the run is finished: after a stop
    it can go on with them, whatever has come in since.

    Args:
        recipe: what to do.
        corpus: a folder or URL, with splits "train" and "val".
        features: the store made from it; None for a recipe that reads text alone.
        workers: how many train together.
        tracking_uri: MLflow's.
        checkpoints: a folder that every worker reaches.
        name: of the run.
        init_from: a run, its name, or a model of the registry, whose weights to begin with as far
            as they fit.
        tags: of the run, beside its own.
        pin: the name of what the caller has pinned, and unpins; None pins what there is now.
        on_start: told the run as soon as there is one.
        on_transfer: told what fits of `init_from`.
        on_report: told how it goes.

    Raises:
        UserError: the data or the settings are not what they should be.
        JobError: the training failed; the run says so too.
    """
    task = task_of(recipe.model)
    called = name or f"{recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"
    check_store(tracking_uri)
    with pinned(corpus, features, called, pin) as held:
        data = describe_data(corpus, features, task.sees, held.name)
        vocabularies = train_vocabularies(recipe, *texts_of(corpus, "train", task, data.pin))
        # A mistake ends here, before there is a run.
        check_recipe(recipe)
        cpus_per_worker(workers)
        warnings = _warnings(data, recipe, task, vocabularies)
        for warning in warnings:
            on_report(Warned(warning))
        sizes = sizes_of(vocabularies, data)
        all_tags = {**(tags or {}), "recipe": recipe.name}
        if warnings:
            all_tags["warnings"] = "; ".join(warnings)
        params = params_of(recipe, sizes, workers)
        begun = None
        if init_from is not None:
            source = resolve_run(init_from, tracking_uri)
            begun = _begin_from(source, recipe, vocabularies, data)
            on_transfer(begun)
            all_tags["init_from"] = params["init_from"] = source.run_id
        run = TrackedRun.start(
            tracking_uri,
            EXPERIMENT,
            called,
            params=params,
            tags=all_tags,
            inputs=inputs_of(data),
            checkpoints=checkpoints,
        )
        # Workers have folders of their own.
        kept = checkpoints.absolute()
        held.checkpoints = kept / run.run_id
        initial = begun.tensors if begun else {}
        job = TrainingJob(
            run.run_id,
            recipe,
            vocabularies.to_json(),
            data,
            kept,
            workers,
            initial,
            all_tags.get("init_from"),
        )
        with run:
            run.environment()
            _log_job(run, job)
            if begun:
                run.text("transfer.json", begun.to_json())
            on_start(run.ref)
            return _train(job, run, on_report)


def _warnings(
    data: DataSource, recipe: Recipe, task: Task, vocabularies: Vocabularies
) -> list[str]:
    """What a training won't use of its data, and scores of it that will say little.

    Raises:
        UserError: the data is not what the task needs, or the scores' tokenizer can't be had.
    """
    warnings: list[str] = []
    for split in ("train", "val"):
        dataset = open_dataset(data, split, recipe, task, vocabularies)
        if isinstance(dataset, Dataset):
            warnings += dataset.warnings
            if split == "val":
                warnings += make_scorer(dataset, recipe.evaluation.tokenizer).warnings
    return warnings


def _begin_from(
    source: RunRef, recipe: Recipe, vocabularies: Vocabularies, data: DataSource
) -> Transfer:
    """What a run's model has for a new training to begin with.

    Raises:
        UserError: nothing.
    """
    with torch.random.fork_rng(devices=()):
        # As the workers draw it: in the rows of tokens that only the new model knows, too.
        torch.manual_seed(recipe.training.seed)
        model = build_model(recipe.model, sizes_of(vocabularies, data))
    found = transfer(model, vocabularies, data, load_trained(source))
    if not found.tensors:
        raise UserError(f"--init-from {source.name}: nothing of its model fits {recipe.name}")
    return found


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
    """Go on with a training that was stopped, as the same run, from its last checkpoint.

    Args:
        spec: the run, its name, or a model of the registry.
        tracking_uri: MLflow's.
        changes: fields of the recipe's training section that may differ: `epochs`, `max_steps`.
        workers: another number of workers than before, or None.
        unpin: whether what is pinned for the run is let go of when it is finished.
        on_start: told the run.
        on_report: told how it goes.

    Raises:
        UserError: there is no such run, or its data has changed since and was not pinned.
        JobError: the training failed.
    """
    ref = resolve_run(spec, tracking_uri)
    job = logged_job(ref)
    settings = job.recipe.training.model_dump() | dict(changes)
    recipe = parse_recipe(job.recipe.model_dump() | {"training": settings}, "--set")
    check_recipe(recipe)
    check_there(job.data)
    job = replace(job, recipe=recipe, workers=workers or job.workers)
    cpus_per_worker(job.workers)
    if not any((job.checkpoints / ref.run_id).glob("checkpoint_*")):
        raise UserError(f"run {ref.name}: no checkpoints in {job.checkpoints / ref.run_id}")
    with reopen(ref, running=True) as run:
        _log_job(run, job)
        on_start(ref)
        result = _train(job, run, on_report)
    if unpin:
        unpin_data(job.data)
    return result


def logged_job(ref: RunRef) -> TrainingJob:
    """What a run's training was made of: all but the weights that it began with.

    Raises:
        UserError: it is no run of a training.
    """
    stored = json.loads((download(ref, JOB_ARTIFACT) / "job.json").read_text("utf-8"))
    return TrainingJob(
        ref.run_id,
        parse_recipe(stored["recipe"], f"run {ref.name}"),
        stored["vocabularies"],
        DataSource.from_dict(stored["data"]),
        Path(stored["checkpoints"]),
        stored["workers"],
        init_from=stored["init_from"],
    )


def texts_by_epoch(ref: RunRef) -> list[tuple[int, str]]:
    """What a model of running text wrote after each of its epochs, one piece of each.

    Raises:
        UserError: the store does not answer.
    """
    with reopen(ref) as run:
        rows = run.logged_rows(SAMPLES_TABLE)
    first = {int(str(row["epoch"])): str(row["hypothesis"]) for row in reversed(rows)}
    return sorted(first.items())


def _log_job(run: TrackedRun, job: TrainingJob) -> None:
    """The inverse of `logged_job`."""
    made_of = {
        "recipe": job.recipe.model_dump(),
        "vocabularies": job.vocabularies,
        "data": asdict(job.data),
        "checkpoints": str(job.checkpoints),
        "workers": job.workers,
        "init_from": job.init_from,
    }
    run.text(f"{JOB_ARTIFACT}/job.json", json.dumps(made_of))


def _train(
    job: TrainingJob, run: TrackedRun, on_report: Callable[[Report], None]
) -> TrainingResult:
    """Train, measure the best weights, and log all of it."""

    # What was told before a stop, but after the last checkpoint, is told again.
    logged = run.logged_steps("val/nats_per_token")
    rows = run.logged_rows(SAMPLES_TABLE)

    def log(report: Report) -> None:
        if isinstance(report, EpochReport) and report.step not in logged:
            logged.add(report.step)
            # The table first: a step that has its figures has all.
            rows[:] = [row for row in rows if row["epoch"] != report.epoch]
            rows.extend({"epoch": report.epoch, **sample_row(s)} for s in report.samples)
            run.table(SAMPLES_TABLE, rows)
            run.metrics(report.figures, report.step)
        if isinstance(report, FellBack):
            run.text(f"fell_back/{report.used}.txt", "\n".join(report.damages) + "\n")
        on_report(report)

    checkpoint = fit(job, log)
    trained = _trained(job, checkpoint)
    progress = checkpoint.progress
    if progress.history:
        run.figure("learning_curves", learning_curves(progress.history, progress.best_epoch))
    if isinstance(trained.model, LanguageModel):
        lines = trained.vocabularies.target.encode_all(
            list(lines_of(trained.data.corpus, "val", trained.data.pin))
        )
        if flows := compare_on_text(trained.model, lines, job.recipe.training.seed):
            run.figure("gradient_flow", gradient_flow_plot(flows))
    with tempfile.TemporaryDirectory() as folder:
        write_mlflow_model(trained, Path(folder) / MODEL_ARTIFACT)
        run.model(Path(folder) / MODEL_ARTIFACT, MODEL_ARTIFACT)
    run.metrics({"best_epoch": progress.best_epoch}, progress.step)
    evaluation = measure(trained.on_gpu_if_any(), trained.data, "val", job.recipe.search)
    log_evaluation(run, trained, trained.data, evaluation, job.recipe.search)
    return TrainingResult(run.ref, evaluation, len(progress.history), progress.best_epoch)


def _trained(job: TrainingJob, checkpoint: Checkpoint) -> TrainedModel:
    """The model with its best weights; before the first epoch's end, with its newest."""
    vocabularies = Vocabularies.from_json(job.vocabularies)
    model = build_model(job.recipe.model, sizes_of(vocabularies, job.data))
    model.load_state_dict(checkpoint.best or checkpoint.average or checkpoint.weights)
    return TrainedModel(model.eval(), vocabularies, job.recipe, job.data, checkpoint.progress.step)
