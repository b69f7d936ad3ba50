"""`intertitle train`: train a recipe on a corpus, as an MLflow run that contains the model."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from upath import UPath

from intertitle.jobs import console
from intertitle.jobs.cluster.session import cluster
from intertitle.jobs.cluster.submission import earlier_run, recording_run
from intertitle.jobs.options import Address, Json, TrackingUri
from intertitle.jobs.progress import TrainingProgress, training_progress
from intertitle.jobs.tracking import find_run, store_option, tracking_store
from intertitle.pipeline.errors import Stopped, UserError
from intertitle.pipeline.storage.paths import as_path

if TYPE_CHECKING:
    from intertitle.training.config.recipe import Recipe
    from intertitle.training.evaluation.evaluate import Evaluation
    from intertitle.training.runs.fit_run import TrainingResult


def train_recipe(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe, or path of a .toml file.")
    ] = None,
    corpus: Annotated[
        UPath | None,
        typer.Option(parser=as_path, metavar="PATH", help="Corpus with the splits train and val."),
    ] = None,
    features: Annotated[
        list[UPath] | None,
        typer.Option(
            parser=as_path,
            metavar="PATH",
            help="Feature store of the corpus; repeated, the features of several stores are "
            "concatenated.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Number of workers that train in parallel; default: 1."),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(help="Change of the recipe, section.field=value; may be repeated."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Resume a run that was stopped.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Repeat a run with the recipe and the data it logged."),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Initialize the model with the weights of this run, where they fit."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run; default: recipe and time.")
    ] = None,
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help="Folder for checkpoints that all workers can access; default: checkpoints."
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Train a recipe on one or more workers, as one MLflow run.

    On SIGTERM a checkpoint is saved and the exit code is 75; a second SIGTERM exits at once.
    """
    settings = set or []
    changes: dict[str, int | None] = {}
    request = None
    # All arguments are checked before PyTorch and Ray are imported, which takes seconds.
    if resume is not None:
        if recipe or corpus or features or like or init_from or name or checkpoints:
            raise UserError("--resume: a run goes on with the recipe and the data it began with")
        changes = _changes(settings)
    elif like is None:
        request = _from_options(recipe, settings, corpus, features or (), init_from)
    elif recipe or corpus or features or init_from:
        raise UserError("--like: a run is repeated with the recipe and the data it had")
    uri = tracking_store(tracking_uri)
    _check_runs((resume, like, init_from), uri)
    checkpoint_folder = checkpoints or Path("checkpoints")
    # In a submitted job, an earlier attempt may have started the same run: resume it.
    resume = resume or earlier_run(checkpoint_folder)
    with console.step("loading PyTorch and Ray"):
        from intertitle.training.runs.train import resume as resume_run
        from intertitle.training.runs.train import train
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
        request = request or _from_run(str(like), settings, uri)
        with cluster(address), stoppable() as watch:
            result = train(
                request.recipe,
                request.corpus,
                request.features,
                workers=workers or request.workers,
                tracking_uri=uri,
                checkpoints=checkpoint_folder,
                name=name,
                init_from=request.init_from,
                on_start=recording_run(checkpoint_folder, watch.on_start),
                on_transfer=watch.on_transfer,
                on_report=watch.on_report,
            )
    show_scores(result)
    console.echo(f"\nto look at the run: intertitle ui{store_option(result.run.tracking_uri)}")
    if json:
        console.result(as_json(result))


@dataclass(frozen=True, slots=True)
class _TrainingRequest:
    recipe: Recipe
    corpus: UPath
    features: Sequence[UPath]
    init_from: str | None
    workers: int = 1


def _from_options(
    recipe: str | None,
    settings: list[str],
    corpus: UPath | None,
    features: Sequence[UPath],
    init_from: str | None,
) -> _TrainingRequest:
    from intertitle.pipeline.corpus import Corpus
    from intertitle.training.config.recipe import load_recipe

    loaded = load_recipe(recipe, settings) if recipe is not None else None
    if loaded is None or corpus is None:
        raise UserError("train: needs a RECIPE and --corpus, or --resume RUN, or --like RUN")
    Corpus(corpus)
    return _TrainingRequest(loaded, corpus, features, init_from)


def _check_runs(specs: Sequence[str | None], tracking_uri: str) -> None:
    """Check that the runs that the options name exist."""
    for spec in specs:
        if spec is not None:
            find_run(spec, tracking_uri)


def _from_run(run: str, settings: list[str], tracking_uri: str) -> _TrainingRequest:
    """Read the training request of a run, after checking that its data has not changed."""
    from intertitle.training.config.recipe import change_recipe
    from intertitle.training.data.pinning import check_unchanged
    from intertitle.training.runs.job_artifact import read_job

    ref = find_run(run, tracking_uri)
    with console.step("reading the data of the run"):
        original = read_job(ref)
        check_unchanged(original.data)
    return _TrainingRequest(
        change_recipe(original.recipe, settings, "--set"),
        as_path(original.data.corpus),
        [as_path(path) for path in original.data.stores],
        original.init_from,
        original.workers,
    )


def _changes(settings: list[str]) -> dict[str, int | None]:
    """Parse the settings that may change when a run is resumed: how long it trains."""
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
def stoppable() -> Iterator[TrainingProgress]:
    """Show the progress of a training; if it is stopped, add how to resume it to the error."""
    with training_progress() as watch:
        try:
            yield watch
        except Stopped as stopped:
            if watch.run and stopped.resumable:
                store = store_option(watch.run.tracking_uri)
                command = f"intertitle train --resume {shlex.quote(watch.run.name)}{store}"
                stopped.add_note(f"to go on: {command}")
            raise


def as_json(result: TrainingResult) -> dict[str, Any]:
    """Return the result of a training as the JSON object that `--json` prints."""
    return {
        "run_id": result.run.run_id,
        "name": result.run.name,
        "metrics": result.evaluation.scores.values,
        "not_measured": result.evaluation.scores.not_measured,
        "warnings": list(result.evaluation.scores.warnings),
    }


def describe(evaluation: Evaluation) -> str:
    """Describe what scores were measured on and how, such as "100 examples (greedy search)"."""
    search = f" ({evaluation.search})" if evaluation.search else ""
    return f"{evaluation.num_examples:,} of {evaluation.split}{search}"


def show_scores(result: TrainingResult) -> None:
    """Print the scores of a training."""
    console.scores(
        f"{result.run.name}: best epoch {result.best_epoch} of {result.num_epochs}, "
        f"measured on {describe(result.evaluation)}",
        result.evaluation.scores.values,
    )
    console.caveats(result.evaluation.scores.not_measured, result.evaluation.scores.warnings)
    if result.evaluation.num_left_out:
        console.echo(f"{result.evaluation.num_left_out} examples left out: quarantined items")
