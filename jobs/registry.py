"""`intertitle promote` and `intertitle rollback`: which run's model is in use."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from jobs import console
from jobs.options import Json, Run, TrackingUri

if TYPE_CHECKING:
    from training.tracking.registry import Standing

Why = Annotated[str, typer.Option(help="The reason, for MLflow's page.")]


def promote(
    run: Run,
    model: Annotated[
        str | None, typer.Option(help="The registered model's name; default: the recipe's.")
    ] = None,
    challenger: Annotated[
        bool, typer.Option("--challenger", help="Only a candidate: the champion stays.")
    ] = False,
    why: Why = "",
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Make a run's model the champion: what models:/NAME@champion means everywhere."""
    from training.tracking import registry
    from training.tracking.run import default_tracking_uri, resolve_run

    ref = resolve_run(run, tracking_uri or default_tracking_uri())
    if challenger:
        _tell(registry.challenge(ref, model, why), "challenger", json)
    else:
        _tell(registry.promote(ref, model, why), "champion", json)


def rollback(
    model: Annotated[str, typer.Argument(help="The registered model's name.")],
    why: Why = "",
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Make the champion before the champion again; called again, the one before that."""
    from training.tracking import registry
    from training.tracking.run import default_tracking_uri

    _tell(
        registry.rollback(model, tracking_uri or default_tracking_uri(), why),
        "champion",
        json,
    )


def _tell(standing: Standing, alias: str, json: bool) -> None:
    already = "" if standing.changed else " already: nothing changed"
    console.say(
        f"models:/{standing.model}@{alias} is version {standing.version}{already}"
        f" (run {standing.run_id})"
    )
    if json:
        console.result(asdict(standing) | {"alias": alias})
