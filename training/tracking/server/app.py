"""App of MLflow's server for a team: `mlflow server --app-name intertitle`.

It is MLflow's own app `basic-auth`, with the accounts of MLFLOW_AUTH_CONFIG_PATH. In addition it
refuses unsafe settings, creates an account for jobs, and restricts artifacts to the artifact root.
Only the server has the keys of the object store: clients send their artifacts to it.

MLflow imports this module in its command, before it starts workers, and in each worker. So unsafe
settings end the command with one line, and the tables of accounts exist before a worker needs them.
"""

from __future__ import annotations

import click
from mlflow.server.auth import auth_config, bootstrap_admin_user, create_app, store

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.server.accounts import check_settings, create_job_account
from intertitle.training.tracking.server.locations import restrict_locations

__all__ = ["create_app"]

try:
    check_settings(auth_config)
    bootstrap_admin_user()
    create_job_account(store)
except UserError as error:
    raise click.UsageError(str(error)) from None
restrict_locations()
