"""`intertitle retrain`: one slot of a retraining."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from jobs import console
from jobs.options import Address, Json, Timezone, TrackingUri


def retrain(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A .toml file; see README.")],
    slot: Annotated[
        str | None, typer.Option(help="Its time; a second call for it does nothing twice.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(help="Without --slot: the newest time of this expression.")
    ] = None,
    timezone: Timezone = "UTC",
    if_new: Annotated[
        bool, typer.Option("--if-new", help="End where there is nothing new to learn from.")
    ] = False,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Look for new data, train a challenger, and promote it if the gate lets it through."""
    from jobs.retraining import load_config
    from jobs.retraining import retrain as run_slot
    from jobs.scheduling.clock import Clock, name_of
    from training.tracking.run import default_tracking_uri

    chosen = load_config(config)
    now = datetime.now().astimezone()
    name = slot or name_of(Clock(cron, timezone).last(now) if cron else now)
    try:
        outcome = run_slot(
            chosen,
            name,
            if_new=if_new,
            tracking_uri=tracking_uri or default_tracking_uri(),
            address=address,
            on_step=lambda step: console.ERRORS.print(step, markup=False),
        )
    except KeyboardInterrupt as stopped:
        again = f"intertitle retrain {shlex.quote(str(config))} --slot {shlex.quote(name)}"
        stopped.add_note(f"to go on: {again}")
        raise
    before = " (by an earlier call)" if outcome.before else ""
    console.say(f"{outcome.model}, slot {outcome.slot}: {outcome.outcome}{before}")
    for reason in outcome.reasons:
        console.say(f"  {reason}")
    if json:
        console.result(asdict(outcome))
