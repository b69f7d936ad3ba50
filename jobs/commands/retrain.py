"""`intertitle retrain`: run one slot of a retraining."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Address, Json, Timezone, TrackingUri
from intertitle.jobs.tracking import tracking_store


def retrain(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file; see docs/retraining.md.")
    ],
    slot: Annotated[
        str | None,
        typer.Option(
            help="Time of the slot; a repeated call for it does not repeat finished steps."
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(help="Cron expression whose latest time is the slot, without --slot."),
    ] = None,
    timezone: Timezone = "UTC",
    if_new: Annotated[
        bool, typer.Option("--if-new", help="End without training if there is no new data.")
    ] = False,
    tracking_uri: TrackingUri = None,
    address: Address = None,
    json: Json = False,
) -> None:
    """Look for new data, train a challenger, and promote it if it passes the gate."""
    from intertitle.jobs.retraining.config import load_config
    from intertitle.jobs.retraining.cron import Clock, name_of

    settings = load_config(config)
    now = datetime.now().astimezone()
    name = slot or name_of(Clock(cron, timezone).last(now) if cron else now)
    with console.step("loading PyTorch and Ray"):
        from intertitle.jobs.retraining.run_slot import retrain as run_slot
    try:
        outcome = run_slot(
            settings,
            name,
            if_new=if_new,
            tracking_uri=tracking_store(tracking_uri),
            address=address,
            on_step=console.note,
        )
    except KeyboardInterrupt as stopped:
        command = f"intertitle retrain {shlex.quote(str(config))} --slot {shlex.quote(name)}"
        stopped.add_note(f"to go on: {command}")
        raise
    suffix = " (by an earlier call)" if outcome.before else ""
    console.echo(f"{outcome.model}, slot {outcome.slot}: {outcome.outcome}{suffix}")
    for reason in outcome.reasons:
        console.echo(f"  {reason}")
    if json:
        console.result(asdict(outcome))
