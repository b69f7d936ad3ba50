"""Accounts of MLflow's server: checks of the settings, and a separate account for jobs.

MLflow itself creates its admin from `admin_username` of the authentication settings and
MLFLOW_AUTH_ADMIN_PASSWORD. All code of a job can read the account that it uses, so jobs get an
account without admin rights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from mlflow.exceptions import MlflowException
from mlflow.server.auth.config import AuthConfig
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import IntegrityError

from intertitle.pipeline.errors import UserError

ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
# Account of jobs; MLflow's client reads these variables.
ACCOUNT, ACCOUNT_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
# Signs forms; the workers and replicas of a server must share it.
SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
# `mlflow server --allowed-hosts` sets it.
ALLOWED_HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"

_MIN_PASSWORD = 12  # MLflow's own rule for every account


def check_settings(config: AuthConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Check passwords, keys and host names of a server before it starts.

    Args:
        config: MLflow's authentication settings.
        environment: environment variables of the server.

    Raises:
        UserError: a setting is missing or unsafe.
    """
    _check_password(ADMIN_PASSWORD, config.admin_password)
    if name := environment.get(ACCOUNT):
        if name == config.admin_username:
            raise UserError(f"{ACCOUNT}: {name!r}, allowed: a name of an account for jobs alone")
        password = environment.get(ACCOUNT_PASSWORD)
        _check_password(ACCOUNT_PASSWORD, password)
        if password == config.admin_password:
            raise UserError(
                f"{ACCOUNT_PASSWORD}: that of {config.admin_username}, allowed: another"
            )
    if not environment.get(SECRET_KEY):
        raise UserError(f"{SECRET_KEY}: not set, allowed: a random text")
    hosts = [name.strip() for name in environment.get(ALLOWED_HOSTS, "").split(",")]
    if "" in hosts or "*" in hosts:
        raise UserError(
            f"--allowed-hosts: {','.join(hosts)!r}, "
            "allowed: the names by which the server is reached, with their ports"
        )


def _check_password(variable: str, password: str | None) -> None:
    allowed = f"allowed: {_MIN_PASSWORD} characters or more, not beginning with 'password'"
    if not password:
        raise UserError(f"{variable}: not set, {allowed}")
    if len(password) < _MIN_PASSWORD or password.lower().startswith("password"):
        raise UserError(f"{variable}: too short or a known default, {allowed}")


def create_job_account(users: SqlAlchemyStore, environment: Mapping[str, str] = os.environ) -> None:
    """Create the account for jobs, or update its password; without a name do nothing.

    Args:
        users: MLflow's table of users.
        environment: environment variables of the server.

    Raises:
        UserError: the account of this name has admin rights.
    """
    name, password = environment.get(ACCOUNT), environment.get(ACCOUNT_PASSWORD)
    if not name:
        return
    if not users.has_user(name):
        try:
            users.create_user(name, password, is_admin=False)
        except MlflowException as error:
            # Another replica of the server has created it in the meantime.
            if not isinstance(error.__cause__, IntegrityError):
                raise
    elif users.get_user(name).is_admin:
        raise UserError(f"{ACCOUNT}: {name!r} is an admin, allowed: an account for jobs alone")
    elif not users.authenticate_user(name, password):
        users.update_user(name, password=password)
