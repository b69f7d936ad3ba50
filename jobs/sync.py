"""`intertitle sync`: what a run wrote while MLflow was away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs import console
from jobs.options import Json, TrackingUri
from pipeline.errors import UserError


def sync(
    folder: Annotated[
        Path, typer.Argument(help="A journal, or a folder with journals in it: checkpoints.")
    ] = Path("checkpoints"),
    tracking_uri: TrackingUri = None,
    json: Json = False,
) -> None:
    """Send to MLflow what runs wrote while it was away."""
    from training.tracking.run import default_tracking_uri, send_kept

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    sent = send_kept(folder, tracking_uri or default_tracking_uri())
    if not sent:
        console.say(f"{folder}: nothing to send")
    for name, num in sent.items():
        console.say(f"run {name}: {num} writes sent")
    if json:
        console.result({"sent": sent})
