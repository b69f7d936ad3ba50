"""`intertitle schedule`: a retraining, again and again."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from jobs import console
from jobs.options import Address, Timezone, TrackingUri
from pipeline.errors import UserError


def schedule(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="As for `retrain`.")],
    cron: Annotated[
        str, typer.Option(help="Minute, hour, day, month and weekday, as cron reads them.")
    ],
    timezone: Timezone = "UTC",
    missed: Annotated[
        str, typer.Option(help="Slots that nobody ran: coalesce, backfill or skip.")
    ] = "coalesce",
    if_new: Annotated[
        bool, typer.Option("--if-new", help="A slot ends where there is nothing new.")
    ] = False,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT", help="Print a manifest: kubernetes, kuberay, systemd or cron."
        ),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Of the containers; default: that of `infra/`.")
    ] = None,
    tracking_uri: TrackingUri = None,
    address: Address = None,
) -> None:
    """Run a retraining's slots as their times come, one at a time, each once."""
    from jobs.deploying.settings import Settings
    from jobs.retraining import load_config
    from jobs.scheduling import Clock, Missed
    from jobs.scheduling import export as manifest
    from jobs.scheduling.clock import time_of
    from jobs.scheduling.daemon import serve
    from training.tracking.run import default_tracking_uri
    from training.tracking.slots import finished_slots

    if missed not in get_args(Missed):
        raise UserError(f"--missed {missed!r}: allowed: {', '.join(get_args(Missed))}")
    clock = Clock(cron, timezone)
    model = load_config(config).model
    uri = tracking_uri or default_tracking_uri()
    options = [
        *(["--if-new"] if if_new else []),
        *(["--address", address] if address else []),
    ]
    if export is not None:
        settings = Settings(image) if image else Settings()
        console.say(manifest(export, config, model, clock, options, settings).rstrip())
        return

    def run(slot: str) -> bool:
        console.ERRORS.print(f"slot {slot}", markup=False)
        command = [sys.executable, "-m", "jobs", "retrain", str(config), "--slot", slot, *options]
        # Not in the command: a database's URL may hold a password.
        with subprocess.Popen(command, env=os.environ | {"MLFLOW_TRACKING_URI": uri}) as process:
            try:
                return process.wait() == 0
            finally:
                if process.poll() is None:
                    # It keeps a checkpoint.
                    process.terminate()
                    process.wait()

    def tell(upcoming: datetime) -> None:
        console.ERRORS.print(f"{model}: the next slot is {upcoming:%Y-%m-%d %H:%M %Z}")

    def finished() -> datetime | None:
        times = map(time_of, finished_slots(model, uri))
        return max((time for time in times if time), default=None)

    serve(clock, cast(Missed, missed), finished=finished, run=run, on_wait=tell)
