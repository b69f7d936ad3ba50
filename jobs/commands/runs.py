"""`intertitle runs`: list the trainings of a store with their scores."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Json, TrackingUri
from intertitle.jobs.tracking import tracking_store


def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of runs.")] = 20,
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """List trainings with their scores, the newest first."""
    from intertitle.training.tracking.store import run_list

    uri = tracking_store(tracking_uri)
    with console.step("reading the runs"):
        runs = run_list.list_runs(uri, limit)
    rows = [
        (
            run.name,
            run.recipe,
            run.status.lower(),
            f"{datetime.fromisoformat(run.started).astimezone():%Y-%m-%d %H:%M}",
            "" if run.seconds is None else str(timedelta(seconds=round(run.seconds))),
            ", ".join(f"{name} {console.score(v)}" for name, v in run.main_scores().items()),
            run.measured,
        )
        for run in runs
    ]
    if rows:
        columns = ("run", "recipe", "status", "started", "time", "scores", "measured")
        console.table(f"{len(rows)} runs", columns, rows)
    else:
        console.echo("no runs yet: `intertitle train` or `intertitle demo` makes the first")
    if json:
        console.result({"runs": [asdict(run) for run in runs]})
