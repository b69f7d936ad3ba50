"""`intertitle sync`: send what runs recorded while MLflow was unavailable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Json, TrackingUri
from intertitle.jobs.tracking import tracking_store
from intertitle.pipeline.errors import UserError


def sync(
    folder: Annotated[
        Path, typer.Argument(help="Journal, or folder that contains journals.")
    ] = Path("checkpoints"),
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Send to MLflow what runs recorded while it was unavailable."""
    from intertitle.training.tracking.outbox.outbox import send_kept

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    sent = send_kept(folder, tracking_store(tracking_uri))
    if not sent:
        console.echo(f"{folder}: nothing to send")
    for name, num in sent.items():
        console.echo(f"run {name}: {num} writes sent")
    if json:
        console.result({"sent": sent})
