"""`intertitle train`: a recipe and a corpus become a run with a model in it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from upath import UPath

from jobs import console
from jobs.attempt import earlier_run, remembering
from jobs.cluster import cluster
from jobs.options import Address, Json, TrackingUri
from jobs.watch import Watch, watching
from pipeline.errors import Stopped, UserError
from pipeline.location import location

if TYPE_CHECKING:
    from training.config import Recipe
    from training.experiment import TrainingResult


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
    from training.experiment import resume as resume_run
    from training.experiment import train
    from training.tracking.run import default_tracking_uri

    uri = tracking_uri or default_tracking_uri()
    kept = checkpoints or Path("checkpoints")
    settings = set or []
    if resume is not None:
        if recipe or corpus or features or like or init_from or name or checkpoints:
            raise UserError("--resume: a run goes on with the recipe and the data it began with")
        changes = _changes(settings)
    else:
        # A job whose first attempt died: its recipe and data are the same.
        resume, changes = earlier_run(kept), {}
    if resume is not None:
        with cluster(address), stoppable() as watch:
            result = resume_run(
                resume,
                tracking_uri=uri,
                changes=changes,
                workers=workers,
                on_start=watch.on_start,
                on_report=watch.on_report,
            )
    else:
        if like is None:
            asked = _as_told(recipe, settings, corpus, features, init_from)
        elif recipe or corpus or features or init_from:
            raise UserError("--like: a run is repeated with the recipe and the data it had")
        else:
            asked = _as_before(like, settings, uri)
        with cluster(address), stoppable() as watch:
            result = train(
                asked.recipe,
                asked.corpus,
                asked.features,
                workers=workers or asked.workers,
                tracking_uri=uri,
                checkpoints=kept,
                name=name,
                init_from=asked.init_from,
                on_start=remembering(kept, watch.on_start),
                on_transfer=watch.on_transfer,
                on_report=watch.on_report,
            )
    show_result(result)
    if json:
        console.result(as_json(result))


@dataclass(frozen=True, slots=True)
class _Asked:
    recipe: Recipe
    corpus: UPath
    features: UPath | None
    init_from: str | None
    workers: int = 1


def _as_told(
    recipe: str | None,
    settings: list[str],
    corpus: UPath | None,
    features: UPath | None,
    init_from: str | None,
) -> _Asked:
    from training.config import load_recipe

    if recipe is None or corpus is None:
        raise UserError("train: needs a RECIPE and --corpus, or --resume RUN, or --like RUN")
    return _Asked(load_recipe(recipe, settings), corpus, features, init_from)


def _as_before(run: str, settings: list[str], tracking_uri: str) -> _Asked:
    """What a run was asked for, of the same data."""
    from training.config import change_recipe
    from training.data.pinning import check_unchanged
    from training.experiment import logged_job
    from training.tracking.run import resolve_run

    was = logged_job(resolve_run(run, tracking_uri))
    check_unchanged(was.data)
    return _Asked(
        change_recipe(was.recipe, settings, "--set"),
        location(was.data.corpus),
        location(was.data.features.path) if was.data.features else None,
        was.init_from,
        was.workers,
    )


def _changes(settings: list[str]) -> dict[str, int | None]:
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


@contextmanager
def stoppable() -> Iterator[Watch]:
    """Show a training; one that is stopped tells how to go on with it, if that is possible."""
    from training.tracking.run import default_tracking_uri
    from training.tracking.store import shown

    with watching() as watch:
        try:
            yield watch
        except Stopped as stopped:
            if watch.run and stopped.resumable:
                command = f"intertitle train --resume {shlex.quote(watch.run.name)}"
                if watch.run.tracking_uri != default_tracking_uri():
                    command += f" --tracking-uri {shlex.quote(shown(watch.run.tracking_uri))}"
                stopped.add_note(f"to go on: {command}")
            raise


def as_json(result: TrainingResult) -> dict[str, Any]:
    """What `--json` promises of a training."""
    return {
        "run_id": result.run.run_id,
        "name": result.run.name,
        "metrics": result.evaluation.scores.values,
        "not_measured": result.evaluation.scores.not_measured,
        "warnings": list(result.evaluation.scores.warnings),
    }


def show_result(result: TrainingResult) -> None:
    """Print the scores of a training, and how to look at its run."""
    from training.tracking.run import open_command

    console.scores(
        f"{result.run.name}: best epoch {result.best_epoch} of {result.num_epochs}, "
        f"measured on {result.evaluation.num_examples:,}",
        result.evaluation.scores.values,
    )
    console.caveats(result.evaluation.scores.not_measured, result.evaluation.scores.warnings)
    if result.evaluation.num_left_out:
        console.say(f"{result.evaluation.num_left_out} examples left out: quarantined items")
    console.say(f"\nto look at the run: {open_command(result.run.tracking_uri)}")
