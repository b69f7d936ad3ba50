"""`intertitle models`: list the registered models with their champions."""

from __future__ import annotations

from dataclasses import asdict

from intertitle.jobs import console
from intertitle.jobs.options import Json, TrackingUri
from intertitle.jobs.tracking import tracking_store


def list_models(tracking_uri: TrackingUri = None, json: Json = False) -> None:
    """List the registered models: versions, champion and challenger."""
    from intertitle.training.tracking.registry import model_list

    uri = tracking_store(tracking_uri)
    with console.step("reading the models"):
        models = model_list.list_models(uri)
    rows = [
        (
            model.name,
            model.num_versions,
            model.champion or "",
            model.champion_run or "",
            model.challenger or "",
        )
        for model in models
    ]
    if rows:
        columns = ("model", "versions", "champion", "its run", "challenger")
        console.table(f"{len(rows)} models", columns, rows)
    else:
        console.echo("no models yet: `intertitle promote RUN` registers the first")
    if json:
        console.result({"models": [asdict(model) for model in models]})
