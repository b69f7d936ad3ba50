"""Run a training from its recipe to its scores, as one MLflow run that this process logs to."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import torch
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe, parse_recipe
from intertitle.training.data.data_ref import DataRef, lines_of, open_data_ref, texts_of
from intertitle.training.data.dataset import Dataset, open_dataset
from intertitle.training.data.pinning import check_there, pinned, unpin_data
from intertitle.training.data.task import Task
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.evaluate_run import log_evaluation, measure, sample_row
from intertitle.training.evaluation.evaluate import Evaluation, make_scorer
from intertitle.training.inference.gradient_flow import compare_on_text
from intertitle.training.inference.model_bundle import MODEL_ARTIFACT, TrainedModel, load_trained
from intertitle.training.inference.pyfunc import write_mlflow_model
from intertitle.training.inference.warm_start import Transfer, transfer
from intertitle.training.models.build import build_model, sizes_of, task_of
from intertitle.training.models.check_recipe import check_recipe
from intertitle.training.models.language_model import LanguageModel
from intertitle.training.reports.plots import gradient_flow_plot, learning_curves
from intertitle.training.tracking.run import RunRef, TrackedRun, download, reopen, resolve_run
from intertitle.training.tracking.store.client import check_store
from intertitle.training.trainer.checkpoint import Checkpoint
from intertitle.training.trainer.events import CheckpointFallback, EpochReport, Report, Warned
from intertitle.training.trainer.run_description import inputs_of, params_of
from intertitle.training.trainer.workers.placement import cpus_per_worker
from intertitle.training.trainer.workers.ray_trainer import TrainingJob, fit

EXPERIMENT = "intertitle"
JOB_ARTIFACT = "job"
SAMPLES_TABLE = "samples_by_epoch"


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Result of a training.

    Attributes:
        run: run that everything is logged to.
        evaluation: evaluation of the best weights on the validation split.
        num_epochs: number of epochs that were trained.
        best_epoch: number of the epoch whose weights are kept, from 1.
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
    it can resume with the same data, even if more has been added since.

    Args:
        recipe: recipe of the training.
        corpus: folder or URL of a corpus, with splits "train" and "val".
        features: feature store made from the corpus; None for a recipe that reads text only.
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
    task = task_of(recipe.model)
    run_name = name or f"{recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"
    check_store(tracking_uri)
    with pinned(corpus, features, run_name, pin) as pins:
        data = open_data_ref(corpus, features, task.visual_input, pins.name)
        vocabularies = build_vocabs(recipe, *texts_of(corpus, "train", task, data.pin))
        # Invalid input raises an error here, before a run is created.
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
        warm_start = None
        if init_from is not None:
            source = resolve_run(init_from, tracking_uri)
            warm_start = _initial_weights(source, recipe, vocabularies, data)
            on_transfer(warm_start)
            all_tags["init_from"] = params["init_from"] = source.run_id
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
        initial = warm_start.tensors if warm_start else {}
        job = TrainingJob(
            run.run_id,
            recipe,
            vocabularies.to_json(),
            data,
            checkpoints_root,
            workers,
            initial,
            all_tags.get("init_from"),
        )
        with run:
            run.environment()
            _log_job(run, job)
            if warm_start:
                run.text("transfer.json", warm_start.to_json())
            on_start(run.ref)
            return _train(job, run, on_report)


def _warnings(data: DataRef, recipe: Recipe, task: Task, vocabularies: Vocabs) -> list[str]:
    """Return warnings about data that a training ignores, and about scores that mean little.

    Raises:
        UserError: the data does not fit the task, or the tokenizer of the metrics is not available.
    """
    warnings: list[str] = []
    for split in ("train", "val"):
        dataset = open_dataset(data, split, recipe, task, vocabularies)
        if isinstance(dataset, Dataset):
            warnings += dataset.warnings
            if split == "val":
                warnings += make_scorer(dataset, recipe.evaluation.tokenizer).warnings
    return warnings


def _initial_weights(
    source: RunRef, recipe: Recipe, vocabularies: Vocabs, data: DataRef
) -> Transfer:
    """Return the weights of a run's model that can initialize a new training.

    Raises:
        UserError: none of the weights fit.
    """
    with torch.random.fork_rng(devices=()):
        # Use the seed of the workers, so that embeddings of tokens that only the new model has
        # get the same initial values.
        torch.manual_seed(recipe.training.seed)
        model = build_model(recipe.model, sizes_of(vocabularies, data))
    transferred = transfer(model, vocabularies, data, load_trained(source))
    if not transferred.tensors:
        raise UserError(f"--init-from {source.name}: nothing of its model fits {recipe.name}")
    return transferred


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
    )


def texts_by_epoch(ref: RunRef) -> list[tuple[int, str]]:
    """Return a text that a language model wrote after each epoch of its training.

    Returns:
        Pairs of the epoch, from 1, and the text.

    Raises:
        UserError: the tracking store does not answer.
    """
    with reopen(ref) as run:
        rows = run.logged_rows(SAMPLES_TABLE)
    first_texts = {int(str(row["epoch"])): str(row["hypothesis"]) for row in reversed(rows)}
    return sorted(first_texts.items())


def _log_job(run: TrackedRun, job: TrainingJob) -> None:
    """Log the definition of a training, for `read_job`."""
    definition = {
        "recipe": job.recipe.model_dump(),
        "vocabularies": job.vocabularies,
        "data": asdict(job.data),
        "checkpoints": str(job.checkpoints),
        "workers": job.workers,
        "init_from": job.init_from,
    }
    run.text(f"{JOB_ARTIFACT}/job.json", json.dumps(definition))


def _train(
    job: TrainingJob, run: TrackedRun, on_report: Callable[[Report], None]
) -> TrainingResult:
    """Train, measure the best weights, and log everything."""

    # Epochs that were reported after the last checkpoint and before a stop are reported again, and
    # must not be logged twice.
    logged = run.logged_steps("val/nats_per_token")
    rows = run.logged_rows(SAMPLES_TABLE)

    def log(report: Report) -> None:
        if isinstance(report, EpochReport) and report.step not in logged:
            logged.add(report.step)
            # Log the table first: a step that has its metrics is then complete.
            rows[:] = [row for row in rows if row["epoch"] != report.epoch]
            rows.extend({"epoch": report.epoch, **sample_row(s)} for s in report.samples)
            run.table(SAMPLES_TABLE, rows)
            run.metrics(report.figures, report.step)
        if isinstance(report, CheckpointFallback):
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
    evaluation = measure(trained.to_default_device(), trained.data, "val", job.recipe.search)
    log_evaluation(run, trained, trained.data, evaluation, job.recipe.search)
    return TrainingResult(run.ref, evaluation, len(progress.history), progress.best_epoch)


def _trained(job: TrainingJob, checkpoint: Checkpoint) -> TrainedModel:
    """Return the model with its best weights, or the newest if no epoch has ended."""
    vocabularies = Vocabs.from_json(job.vocabularies)
    model = build_model(job.recipe.model, sizes_of(vocabularies, job.data))
    model.load_state_dict(checkpoint.best or checkpoint.average or checkpoint.weights)
    return TrainedModel(model.eval(), vocabularies, job.recipe, job.data, checkpoint.progress.step)
