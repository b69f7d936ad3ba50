"""`intertitle promote` and `intertitle rollback`: choose which run's model is the champion."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Json, Run, TrackingUri
from intertitle.jobs.tracking import tracking_store

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
    from intertitle.training.tracking.registry import registry
    from intertitle.training.tracking.store.client import resolve_run

    ref = resolve_run(run, tracking_store(tracking_uri))
    if challenger:
        _tell(registry.challenge(ref, model, why), "challenger", json)
    else:
        _tell(registry.promote(ref, model, why), "champion", json)


def rollback(
    model: Annotated[str, typer.Argument(help="Name of the registered model.")],
    why: Why = "",
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Restore the previous champion; each further call goes back by one more."""
    from intertitle.training.tracking.registry import registry

    _tell(
        registry.rollback(model, tracking_store(tracking_uri), why),
        "champion",
        json,
    )


def _tell(standing: RegistryState, alias: str, json: bool) -> None:
    already = "" if standing.changed else " already: nothing changed"
    console.echo(
        f"models:/{standing.model}@{alias} is version {standing.version}{already}"
        f" (run {standing.run_id})"
    )
    if json:
        console.result(asdict(standing) | {"alias": alias})
