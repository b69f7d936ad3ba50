"""`intertitle promote` and `intertitle rollback`: choose which run's model is the champion."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Json, Run, TrackingUri
from intertitle.jobs.tracking import find_run, tracking_store

if TYPE_CHECKING:
    from intertitle.training.tracking.registry.registry import RegistryState

Why = Annotated[str, typer.Option(help="Reason for the change, shown in MLflow.")]


def promote(
    run: Run,
    model: Annotated[
        str | None,
        typer.Option(help="Name of the registered model; default: the name of the recipe."),
    ] = None,
    challenger: Annotated[
        bool,
        typer.Option(
            "--challenger", help="Set the alias challenger and leave the champion as it is."
        ),
    ] = False,
    why: Why = "",
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Make a run's model the champion, which models:/NAME@champion refers to."""
    ref = find_run(run, tracking_store(tracking_uri))
    with console.step("changing the registry"):
        from intertitle.training.tracking.registry import registry

        change = registry.challenge if challenger else registry.promote
        state = change(ref, model, why)
    _tell(state, "challenger" if challenger else "champion", json)


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the registered model.")],
    why: Why = "",
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Restore the previous champion; each further call goes back by one more."""
    with console.step("changing the registry"):
        from intertitle.training.tracking.registry import registry

        state = registry.rollback(model, tracking_store(tracking_uri), why)
    _tell(state, "champion", json)


def _tell(standing: RegistryState, alias: str, json: bool) -> None:
    already = "" if standing.changed else " already: nothing changed"
    console.echo(
        f"models:/{standing.model}@{alias} is version {standing.version}{already}"
        f" (run {standing.run_id})"
    )
    if json:
        console.result(asdict(standing) | {"alias": alias})
