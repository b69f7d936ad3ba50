"""Train the job of a run, measure the best weights, and log everything."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from intertitle.training.data.data_ref import Data
from intertitle.training.data.dataset import Splits
from intertitle.training.data.texts import lines_of
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.phase import Phase
from intertitle.training.inference.gradient_flow import compare_on_text
from intertitle.training.inference.model_bundle import MODEL_ARTIFACT, TrainedModel
from intertitle.training.inference.pyfunc import write_mlflow_model
from intertitle.training.models.build import build_model, sizes_of
from intertitle.training.models.language_model import LanguageModel
from intertitle.training.reports.plots import gradient_flow_plot
from intertitle.training.runs.evaluate_run import measure
from intertitle.training.runs.log_evaluation import log_evaluation, sample_row
from intertitle.training.runs.log_report import log_report
from intertitle.training.tracking.run import TrackedRun, reopen
from intertitle.training.tracking.store.client import RunRef
from intertitle.training.trainer.checkpoint import Checkpoint
from intertitle.training.trainer.events import CheckpointFallback, EpochReport, Report
from intertitle.training.trainer.run_description import params_of
from intertitle.training.trainer.workers.ray_trainer import TrainingJob, fit

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


def fit_run(
    job: TrainingJob,
    data: Data,
    splits: Splits,
    run: TrackedRun,
    on_report: Callable[[Report], None],
) -> TrainingResult:
    """Train, measure the best weights, and log everything.

    Args:
        job: training to run.
        data: opened data of the training.
        splits: data sets of the training.
        run: run to log to.
        on_report: callback for progress events.
    """

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

    on_report(Phase(f"starting {job.workers} worker{'s' * (job.workers > 1)}"))
    checkpoint = fit(job, splits, log)
    on_report(Phase("storing the model"))
    trained = _trained(job, checkpoint)
    progress = checkpoint.progress
    if isinstance(trained.model, LanguageModel):
        lines = trained.vocabularies.target.encode_all(list(lines_of(data.corpus, "val")))
        if flows := compare_on_text(trained.model, lines, job.recipe.training.seed):
            run.figure("gradient_flow", gradient_flow_plot(flows))
    with tempfile.TemporaryDirectory() as folder:
        write_mlflow_model(trained, Path(folder) / MODEL_ARTIFACT)
        run.model(Path(folder) / MODEL_ARTIFACT, MODEL_ARTIFACT)
    run.tags({"best_epoch": str(progress.best_epoch)})
    search = job.recipe.search
    evaluation = measure(trained.to_default_device(), data, "val", search, on_phase=on_report)
    on_report(Phase("logging the evaluation"))
    record = log_evaluation(run, trained, data, evaluation, search)
    on_report(Phase("writing the report"))
    settings = params_of(job.recipe, sizes_of(trained.vocabularies, job.data), job.workers)
    log_report(run, data, evaluation, record, settings, progress.history, progress.best_epoch)
    return TrainingResult(run.ref, evaluation, len(progress.history), progress.best_epoch)


def _trained(job: TrainingJob, checkpoint: Checkpoint) -> TrainedModel:
    """Return the model with its best weights, or the newest if no epoch has ended."""
    vocabularies = Vocabs.from_json(job.vocabularies)
    model = build_model(job.recipe.model, sizes_of(vocabularies, job.data))
    model.load_state_dict(checkpoint.best or checkpoint.average or checkpoint.weights)
    return TrainedModel(model.eval(), vocabularies, job.recipe, job.data, checkpoint.progress.step)


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
