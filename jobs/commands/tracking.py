"""`intertitle tracking`: start an MLflow server for a team."""

from __future__ import annotations

from typing import Annotated

import typer

from intertitle.pipeline.errors import UserError


def serve_tracking(
    context: typer.Context,
    store: Annotated[
        str,
        typer.Option(
            envvar="MLFLOW_BACKEND_STORE_URI",
            metavar="URL",
            help="Database, postgresql://USER@HOST/DATABASE; a URL with a password is allowed only "
            "in the environment variable.",
        ),
    ],
    artifacts: Annotated[
        str,
        typer.Option(
            envvar="MLFLOW_ARTIFACTS_DESTINATION",
            metavar="URL",
            help="Location for artifacts: s3://BUCKET/FOLDER or a local folder.",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    allowed_hosts: Annotated[
        str, typer.Option(metavar="NAME,NAME", help="Host names by which clients reach the server.")
    ] = "",
) -> None:
    """Run an MLflow server with user accounts, for runs and models of a team.

    The user `admin` logs in with MLFLOW_AUTH_ADMIN_PASSWORD and adds users at /signup. Users may
    read all runs and models, and write to their own. The keys of the object store
    (AWS_ACCESS_KEY_ID and so on) must be in the environment of this server; clients need only
    MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. If the server is
    reached from other machines, put it behind a proxy that speaks HTTPS.
    """
    from intertitle.training.tracking.server.serve import STORE, ServerSettings, database_url, serve

    source = context.get_parameter_source("store")
    if source and source.name == "COMMANDLINE" and database_url(store).password:
        raise UserError(f"--store: everyone here can read its password, allowed: in {STORE}")
    names = [name.strip() for name in allowed_hosts.split(",")] if allowed_hosts else []
    serve(ServerSettings(store, artifacts, host, port, names))
