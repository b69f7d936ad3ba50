"""`intertitle schedule`: run a retraining on a schedule."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Address, Timezone, TrackingUri
from intertitle.jobs.tracking import tracking_store
from intertitle.pipeline.errors import UserError


def schedule(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file; see docs/retraining.md.")
    ],
    cron: Annotated[
        str, typer.Option(help="Cron expression: minute, hour, day, month and weekday.")
    ],
    timezone: Timezone = "UTC",
    missed: Annotated[
        str, typer.Option(help="How to treat missed slots: coalesce, backfill or skip.")
    ] = "coalesce",
    if_new: Annotated[
        bool, typer.Option("--if-new", help="End a slot without training if there is no new data.")
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Print a manifest instead of running: kubernetes, kuberay, systemd or cron.",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="Container image of the manifest; default: intertitle:VERSION."),
    ] = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
) -> None:
    """Run the slots of a retraining at their times, one at a time and each once."""
    from intertitle.jobs.retraining.config import load_config
    from intertitle.jobs.retraining.cron import Clock, Missed, time_of
    from intertitle.jobs.retraining.daemon import serve
    from intertitle.training.tracking.registry.retraining_runs import finished_slots

    if missed not in get_args(Missed):
        raise UserError(f"--missed {missed!r}: allowed: {', '.join(get_args(Missed))}")
    clock = Clock(cron, timezone)
    model = load_config(config).model
    uri = tracking_store(tracking_uri)
    options = [
        *(["--if-new"] if if_new else []),
        *(["--address", address] if address else []),
    ]
    if export is not None:
        from intertitle.jobs.retraining.export import export as manifest

        console.echo(manifest(export, config, model, clock, options, image, uri).rstrip())
        return

    def run(slot: str) -> bool:
        console.note(f"slot {slot}")
        command = [
            sys.executable,
            "-m",
            "intertitle.jobs",
            "retrain",
            str(config),
            "--slot",
            slot,
            *options,
        ]
        # Passed in the environment, because the URL of a database may contain a password.
        with subprocess.Popen(command, env=os.environ | {"MLFLOW_TRACKING_URI": uri}) as process:
            try:
                return process.wait() == 0
            finally:
                if process.poll() is None:
                    # After SIGTERM the retraining saves a checkpoint.
                    process.terminate()
                    process.wait()

    def log_next(upcoming: datetime) -> None:
        console.note(f"{model}: the next slot is {upcoming:%Y-%m-%d %H:%M %Z}")

    def finished() -> datetime | None:
        times = map(time_of, finished_slots(model, uri))
        return max((time for time in times if time), default=None)

    serve(clock, cast(Missed, missed), finished=finished, run=run, on_wait=log_next)
