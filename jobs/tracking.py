"""`intertitle tracking`: MLflow's server for a team."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.errors import UserError


def serve_tracking(
    context: typer.Context,
    store: Annotated[
        str,
        typer.Option(
            envvar="MLFLOW_BACKEND_STORE_URI",
            metavar="URL",
            help="postgresql://USER@HOST/DATABASE; one with a password in the variable alone.",
        ),
    ],
    artifacts: Annotated[
        str,
        typer.Option(
            envvar="MLFLOW_ARTIFACTS_DESTINATION",
            metavar="URL",
            help="Where artifacts are kept: s3://BUCKET/FOLDER or a folder.",
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    allowed_hosts: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="The names by which the server is reached.")
    ] = "",
) -> None:
    """Serve runs and models to a team: MLflow's server, with accounts.

    MLFLOW_AUTH_ADMIN_PASSWORD is what `admin` logs in with, who adds others at /signup: they may
    read all runs and models, and write to their own. The object store's keys (AWS_ACCESS_KEY_ID
    and so on) are in this server's environment; clients need none, but MLFLOW_TRACKING_URI,
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. Beyond one machine, put it behind a
    proxy that speaks https.
    """
    from training.tracking.server import STORE, ServerSettings, database_url, serve

    source = context.get_parameter_source("store")
    if source and source.name == "COMMANDLINE" and database_url(store).password:
        raise UserError(f"--store: everyone here can read its password, allowed: in {STORE}")
    names = [name.strip() for name in allowed_hosts.split(",")] if allowed_hosts else []
    serve(ServerSettings(store, artifacts, host, port, names))
