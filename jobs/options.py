"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError


def local_path(text: str) -> Path:
    """A path of this machine; `Path` alone would take an URL for one."""
    if "://" in text:
        raise UserError(f"{text}: allowed: a path on this machine, or one that all nodes mount")
    return Path(text)


Run = Annotated[str, typer.Argument(help="A run's id or name, or models:/name@alias.")]
Beam = Annotated[int | None, typer.Option(min=1, help="Sentences kept; default: the recipe's.")]
Json = Annotated[
    bool, typer.Option("--json", help="The last line printed is one JSON object with the result.")
]
Address = Annotated[
    str | None,
    typer.Option(
        help="A Ray cluster: auto, host:port or ray://host:port; default: this machine alone."
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(
        envvar="MLFLOW_TRACKING_URI",
        help="Where MLflow keeps runs; default: mlflow.db in this folder.",
    ),
]
