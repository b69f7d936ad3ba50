"""`intertitle train`: a recipe and a corpus become a run with a model in it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from upath import UPath

from jobs import console
from jobs.attempt import earlier_run, remembering
from jobs.cluster import cluster
from jobs.options import Address, Json, TrackingUri
from pipeline.errors import SIGINT_EXIT_CODE, SIGTERM_EXIT_CODE, Stopped, UserError
from pipeline.location import location

if TYPE_CHECKING:
    from training.experiment import TrainingResult
    from training.reports import Report
    from training.tracking.run import RunRef
    from training.transfer import Transfer


def train_recipe(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe's name, or the path of a .toml file.")
    ] = None,
    corpus: Annotated[
        UPath | None,
        typer.Option(parser=location, metavar="PATH", help="With splits train and val."),
    ] = None,
    features: Annotated[
        UPath | None, typer.Option(parser=location, metavar="PATH", help="The store made from it.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Training together; default: 1.")
    ] = None,
    set: Annotated[
        list[str] | None, typer.Option(help="section.field=value; changes the recipe.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(metavar="RUN", help="Repeat a run, from what it logged.")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Begin with its weights, as far as they fit."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the run; default: recipe and time.")] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(help="A folder that all workers reach; default: checkpoints."),
    ] = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Train a recipe, on one worker or many, as one MLflow run.

    SIGTERM has a checkpoint kept and exits with 75; a second one exits at once.
    """
    from training.config import change_recipe, load_recipe
    from training.data.source import check_unchanged
    from training.experiment import logged_job, train
    from training.experiment import resume as resume_run
    from training.tracking.run import default_tracking_uri, resolve_run

    uri = tracking_uri or default_tracking_uri()
    settings = set or []
    kept = checkpoints or Path("checkpoints")
    if resume is not None:
        if recipe or corpus or features or like or init_from or name or checkpoints:
            raise UserError("--resume: a run goes on with the recipe and the data it began with")
        changes = _resumable(settings)
    # A job whose first attempt died: its recipe and data are the same.
    elif (resume := earlier_run(kept)) is not None:
        changes = {}
    if resume is not None:
        with cluster(address):
            result = with_progress(
                lambda on_start, on_report: resume_run(
                    resume,
                    tracking_uri=uri,
                    changes=changes,
                    workers=workers,
                    on_start=on_start,
                    on_report=on_report,
                )
            )
    else:
        if like is not None:
            if recipe or corpus or features or init_from:
                raise UserError("--like: a run is repeated with the recipe and the data it had")
            was = logged_job(resolve_run(like, uri))
            check_unchanged(was.data)
            chosen = change_recipe(was.recipe, settings, "--set")
            from_corpus = location(was.data.corpus)
            features = location(was.data.features.path) if was.data.features else None
            init_from, workers = was.init_from, workers or was.workers
        elif recipe is None or corpus is None:
            raise UserError("train: needs a RECIPE and --corpus, or --resume RUN, or --like RUN")
        else:
            chosen, from_corpus = load_recipe(recipe, settings), corpus
        with cluster(address):
            result = with_progress(
                lambda on_start, on_report: train(
                    chosen,
                    from_corpus,
                    features,
                    workers=workers or 1,
                    tracking_uri=uri,
                    checkpoints=kept,
                    name=name,
                    init_from=init_from,
                    on_start=remembering(kept, on_start),
                    on_transfer=tell_transfer,
                    on_report=on_report,
                )
            )
    show_result(result)
    if json:
        console.result(as_json(result))


def _resumable(settings: list[str]) -> dict[str, int | None]:
    """The settings that may differ when a run goes on: how long it trains."""
    changes: dict[str, int | None] = {}
    for setting in settings:
        field, _, value = setting.partition("=")
        if field not in ("training.epochs", "training.max_steps"):
            raise UserError(
                f"--set {setting!r}: with --resume, allowed: training.epochs, training.max_steps"
            )
        if value != "none" and not value.isdecimal():
            raise UserError(f"--set {setting!r}: expected a whole number, or none")
        changes[field.partition(".")[2]] = None if value == "none" else int(value)
    return changes


def with_progress(
    start: Callable[[Callable[[RunRef], None], Callable[[Report], None]], TrainingResult],
) -> TrainingResult:
    """Train, with a progress bar and a line an epoch; told to stop, it says how to go on.

    Raises:
        typer.Exit: with 75 after SIGTERM, with 130 after Ctrl-C.
    """
    from training.reports import FellBack, StepReport

    started: list[RunRef] = []
    # Ray's own, there since Ray started, would have the run end as FAILED.
    handler = signal.signal(signal.SIGTERM, _stop)
    with console.bar("training", counts=False) as bar:

        def tell_run(run: RunRef) -> None:
            started.append(run)
            console.ERRORS.print(f"run {run.name} ({run.run_id})", markup=False)

        def tell(report: Report) -> None:
            if isinstance(report, StepReport):
                note = f"{report.nats_per_token:.3f} nats, {report.tokens_per_s:.0f} tokens/s"
                bar.update(report.done, 1.0, f"epoch {report.epoch}, {note}")
                return
            if isinstance(report, FellBack):
                console.ERRORS.print(
                    f"WARNING: {'; '.join(report.damages)}; going on from {report.used}",
                    style="bold red",
                    markup=False,
                    soft_wrap=True,
                )
                return
            figures = {
                name.removeprefix("val/"): value
                for name, value in report.figures.items()
                if name.startswith("val/")
            }
            scores = [f"{name} {value:.4g}" for name, value in figures.items()]
            console.ERRORS.print(
                f"epoch {report.epoch}: {report.figures['train/nats_per_token']:.3f} nats a token "
                f"in training; validation: {', '.join(scores)}"
                f"{' (best so far)' if report.is_best else ''}",
                markup=False,
                soft_wrap=True,
            )

        try:
            return start(tell_run, tell)
        except KeyboardInterrupt as stopped:
            _leave(stopped, *started)
        finally:
            signal.signal(signal.SIGTERM, handler)


def tell_transfer(found: Transfer) -> None:
    """Say what a training begins with."""
    for line in found.describe():
        console.ERRORS.print(line, markup=False, soft_wrap=True)


def _stop(number: int, frame: object) -> NoReturn:
    raise Stopped(SIGTERM_EXIT_CODE)


def _leave(stopped: KeyboardInterrupt, run: RunRef | None = None) -> NoReturn:
    """Say how the training can go on, if it can."""
    from training.tracking.run import default_tracking_uri
    from training.tracking.store import shown

    told = stopped if isinstance(stopped, Stopped) else Stopped(SIGINT_EXIT_CODE)
    line = "stopped before its first checkpoint"
    if run is not None and told.resumable:
        line = f"stopped; to go on: intertitle train --resume {shlex.quote(run.name)}"
        if run.tracking_uri != default_tracking_uri():
            line += f" --tracking-uri {shlex.quote(shown(run.tracking_uri))}"
    console.ERRORS.print(f"intertitle: {line}", markup=False, soft_wrap=True)
    raise typer.Exit(told.exit_code) from stopped


def as_json(result: TrainingResult) -> dict[str, Any]:
    """What `--json` promises of a training."""
    return {
        "run_id": result.run.run_id,
        "name": result.run.name,
        "metrics": result.evaluation.scores.values,
    }


def show_result(result: TrainingResult) -> None:
    """Print the scores of a training, and how to look at its run."""
    from training.tracking.run import open_command

    console.scores(
        f"{result.run.name}: best epoch {result.best_epoch} of {result.num_epochs}, "
        f"measured on {result.evaluation.num_examples:,}",
        result.evaluation.scores.values,
    )
    if result.evaluation.num_left_out:
        console.say(f"{result.evaluation.num_left_out} examples left out: quarantined items")
    console.say(f"\nto look at the run: {open_command(result.run.tracking_uri)}")
