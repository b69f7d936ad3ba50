"""A training from its command to its scores: one job, one MLflow run, logged by this process."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from upath import UPath

from pipeline.errors import UserError
from training.checkpoint import Checkpoint, TrainedModel
from training.config import Recipe, SearchConfig, flatten, parse_recipe
from training.data.dataset import (
    Dataset,
    DataSource,
    check_unchanged,
    describe_data,
    training_sentences,
)
from training.data.tokenizer import WordTokenizer
from training.evaluation.evaluate import Evaluation, Sample, evaluate
from training.loop import EpochReport, Report
from training.models.build import build_model
from training.tracking.plots import learning_curves, length_histogram
from training.tracking.run import (
    DataInput,
    RunRef,
    TrackedRun,
    download,
    reopen,
    resolve_run,
)
from training.trainer import TrainingJob, cpus_per_worker, fit

EXPERIMENT = "intertitle"
MODEL_ARTIFACT = "model"
JOB_ARTIFACT = "job"


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
    features: UPath | Path,
    *,
    workers: int,
    tracking_uri: str,
    checkpoints: Path,
    name: str | None = None,
    on_start: Callable[[RunRef], None] = lambda _: None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> TrainingResult:
    """Train a recipe on a corpus, as a new run.

    Args:
        recipe: what to do.
        corpus: a folder or URL, with splits "train" and "val".
        features: the store made from it.
        workers: how many train together.
        tracking_uri: MLflow's.
        checkpoints: a folder that every worker reaches.
        name: of the run.
        on_start: told the run as soon as there is one.
        on_report: told how it goes.

    Raises:
        UserError: the data or the settings are not what they should be.
        JobError: the training failed; the run says so too.
    """
    data = describe_data(corpus, features)
    tokenizer = WordTokenizer.train(training_sentences(corpus, "train"), recipe.tokenizer.min_count)
    # A mistake ends here, before there is a run.
    cpus_per_worker(workers)
    for split in ("train", "val"):
        Dataset(data, split, tokenizer, recipe.tokenizer.max_words)
    run = TrackedRun.start(
        tracking_uri,
        EXPERIMENT,
        name or f"{recipe.name}-{datetime.now():%Y%m%d-%H%M%S}",
        params={**flatten(recipe), "workers": workers, "vocabulary": len(tokenizer)},
        tags={"recipe": recipe.name, "checkpoints": str(checkpoints.absolute())},
        inputs=[
            DataInput("corpus", data.corpus, data.corpus_fingerprint, "training"),
            DataInput("features", data.features, data.snapshot, "training"),
        ],
    )
    job = TrainingJob(run.run_id, recipe, tokenizer.to_json(), data, checkpoints, workers)
    with run:
        run.environment()
        _log_job(run, job)
        on_start(run.ref)
        return _train(job, run, on_report)


def resume(
    spec: str,
    *,
    tracking_uri: str,
    changes: Mapping[str, int | None],
    workers: int | None = None,
    on_start: Callable[[RunRef], None] = lambda _: None,
    on_report: Callable[[Report], None] = lambda _: None,
) -> TrainingResult:
    """Go on with a training that was stopped, as the same run, from its last checkpoint.

    Args:
        spec: the run, its name, or a model of the registry.
        tracking_uri: MLflow's.
        changes: fields of the recipe's training section that may differ: `epochs`, `max_steps`.
        workers: another number of workers than before, or None.
        on_start: told the run.
        on_report: told how it goes.

    Raises:
        UserError: there is no such run, or its data has changed since.
        JobError: the training failed.
    """
    ref = resolve_run(spec, tracking_uri)
    stored = json.loads((download(ref, JOB_ARTIFACT) / "job.json").read_text())
    recipe = parse_recipe(stored["recipe"], f"run {ref.name}")
    settings = recipe.training.model_dump() | dict(changes)
    recipe = parse_recipe(recipe.model_dump() | {"training": settings}, "--set")
    data = DataSource(**stored["data"])
    check_unchanged(data)
    job = TrainingJob(
        ref.run_id,
        recipe,
        stored["tokenizer"],
        data,
        Path(stored["checkpoints"]),
        workers or stored["workers"],
    )
    cpus_per_worker(job.workers)
    if not any((job.checkpoints / ref.run_id).glob("checkpoint_*")):
        raise UserError(f"run {ref.name}: no checkpoints in {job.checkpoints / ref.run_id}")
    with reopen(ref, running=True) as run:
        _log_job(run, job)
        on_start(ref)
        return _train(job, run, on_report)


def _log_job(run: TrackedRun, job: TrainingJob) -> None:
    """Keep what the training is made of, for `resume`."""
    made_of = {
        "recipe": job.recipe.model_dump(),
        "tokenizer": job.tokenizer,
        "data": asdict(job.data),
        "checkpoints": str(job.checkpoints.absolute()),
        "workers": job.workers,
    }
    run.text(f"{JOB_ARTIFACT}/job.json", json.dumps(made_of))


def _train(
    job: TrainingJob, run: TrackedRun, on_report: Callable[[Report], None]
) -> TrainingResult:
    """Train, measure the best weights, and log all of it."""

    logged: set[int] = set()

    def log(report: Report) -> None:
        # A worker that died after it told of an epoch, before its checkpoint, tells of it again.
        if isinstance(report, EpochReport) and report.epoch not in logged:
            logged.add(report.epoch)
            run.metrics(report.figures, report.step)
            rows = [{"epoch": report.epoch, **_row(sample)} for sample in report.samples]
            run.table("samples_by_epoch", rows)
        on_report(report)

    checkpoint = fit(job, log)
    trained = _trained(job, checkpoint)
    progress = checkpoint.progress
    if progress.history:
        run.figure("learning_curves", learning_curves(progress.history, progress.best_epoch))
    with tempfile.TemporaryDirectory() as folder:
        trained.write(Path(folder) / MODEL_ARTIFACT)
        run.folder(Path(folder) / MODEL_ARTIFACT, MODEL_ARTIFACT)
    run.metrics({"best_epoch": progress.best_epoch}, progress.step)
    evaluation = _evaluate(trained, trained.data, "val", job.recipe.search)
    _log_evaluation(run, trained, trained.data, evaluation, job.recipe.search)
    return TrainingResult(run.ref, evaluation, len(progress.history), progress.best_epoch)


def _trained(job: TrainingJob, checkpoint: Checkpoint) -> TrainedModel:
    """The model with its best weights; before the first epoch's end, with its newest."""
    tokenizer = WordTokenizer.from_json(job.tokenizer)
    model = build_model(job.recipe.model, job.data.feature_dim, len(tokenizer))
    model.load_state_dict(checkpoint.best or checkpoint.average or checkpoint.weights)
    return TrainedModel(model.eval(), tokenizer, job.recipe, job.data, checkpoint.progress.step)


def load_trained(ref: RunRef) -> TrainedModel:
    """The model that a run kept.

    Raises:
        UserError: it kept none, or the files are damaged.
    """
    return TrainedModel.read(download(ref, MODEL_ARTIFACT))


def evaluate_run(
    ref: RunRef,
    *,
    split: str,
    beam_size: int | None = None,
    corpus: UPath | Path | None = None,
    features: UPath | Path | None = None,
) -> Evaluation:
    """Measure a run's model on a split, and add the scores to the run.

    Args:
        ref: the run.
        split: of the corpus.
        beam_size: K; None is as in the recipe.
        corpus: None is the one it was trained on.
        features: likewise.

    Raises:
        UserError: no such split, or features of another make than the model's.
    """
    trained = load_trained(ref)
    search = trained.recipe.search
    if beam_size is not None:
        search = search.model_copy(update={"beam_size": beam_size})
    # As it is now: what has changed since the training is measured and named, not passed over.
    data = describe_data(corpus or trained.data.corpus, features or trained.data.features)
    evaluation = _evaluate(trained, data, split, search)
    with reopen(ref) as run:
        _log_evaluation(run, trained, data, evaluation, search)
    return evaluation


def _evaluate(
    trained: TrainedModel, data: DataSource, split: str, search: SearchConfig
) -> Evaluation:
    # The features have to be of the make that the model was trained on.
    data = replace(data, features_fingerprint=trained.data.features_fingerprint)
    dataset = Dataset(data, split, trained.tokenizer, trained.recipe.tokenizer.max_words)
    return evaluate(trained.model, trained.tokenizer, dataset, split, search)


def _log_evaluation(
    run: TrackedRun,
    trained: TrainedModel,
    data: DataSource,
    evaluation: Evaluation,
    search: SearchConfig,
) -> None:
    """Add scores and samples to a run under a name of their own: nothing is overwritten."""
    prefix = f"eval/{evaluation.split}/beam_{search.beam_size}"
    if data.corpus_fingerprint != trained.data.corpus_fingerprint:
        prefix = f"eval/corpus_{data.corpus_fingerprint[:8]}/{prefix.removeprefix('eval/')}"
    stamp = f"{prefix}/{datetime.now():%Y%m%dT%H%M%S}"
    scores = evaluation.scores
    run.metrics({f"{prefix}/{name}": v for name, v in scores.values.items()}, trained.step)
    how = {
        "split": evaluation.split,
        "num_examples": len(evaluation.samples),
        "num_left_out": evaluation.num_left_out,
        "data": asdict(data),
        "search": search.model_dump(),
        "scores": scores.values,
        "signatures": scores.signatures,
    }
    run.text(f"{stamp}/how.json", json.dumps(how, indent=1))
    run.table(f"{stamp}/samples", [_row(sample) for sample in evaluation.samples])
    hypotheses = [sample.hypothesis for sample in evaluation.samples]
    references = [sample.references for sample in evaluation.samples]
    run.figure(f"{stamp}/lengths", length_histogram(hypotheses, references))


def _row(sample: Sample) -> dict[str, object]:
    """A sample as a line of a table."""
    return {
        "id": sample.id,
        "hypothesis": sample.hypothesis,
        "references": " | ".join(sample.references),
        "score": sample.score,
    }
