"""Options that several commands take."""

from __future__ import annotations

from typing import Annotated

import typer

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
Timezone = Annotated[str, typer.Option(help="Of --cron; as Europe/Berlin.")]
