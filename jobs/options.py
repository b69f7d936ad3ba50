"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

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
