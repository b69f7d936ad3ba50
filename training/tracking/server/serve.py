"""MLflow server for a team: runs in PostgreSQL, artifacts in an object store, and accounts.

Only the server has the keys of the object store: clients send their artifacts to it. Secrets are
passed to its processes in their environment, never in arguments, which every user of a machine can
read, and never in a URL, which logs may contain.

The rules of accounts are MLflow's (mlflow.org/docs/latest/self-hosting/security/basic-http-auth).
"""

from __future__ import annotations

import configparser
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from intertitle.pipeline.errors import JobError, UserError
from intertitle.training.tracking.store.client import one_line

if TYPE_CHECKING:
    from sqlalchemy import URL

ADMIN_PASSWORD = "MLFLOW_AUTH_ADMIN_PASSWORD"
STORE = "MLFLOW_BACKEND_STORE_URI"
# Account of jobs; MLflow's client reads these variables.
ACCOUNT, ACCOUNT_PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
_SECRET_KEY = "MLFLOW_FLASK_SERVER_SECRET_KEY"
_ADMIN = "admin"

_MIN_PASSWORD = 12  # MLflow's own rule for every account
_LOOPBACK = ("localhost", "127.0.0.1")

# Every account may read all runs and models, which is the purpose of such a server. Writing to an
# experiment or model of another account needs a grant; the account that creates it owns it.
_DEFAULT_PERMISSION = "READ"
# Checking a password hash takes tens of milliseconds of CPU time, and a page makes dozens of
# requests, so results are cached. An old password works for at most this time after a change.
_REMEMBER_S = 60


@dataclass(frozen=True)
class ServerSettings:
    """Settings of a server.

    Attributes:
        store: database URL, `postgresql://USER@HOST/DATABASE`, optionally with a password.
        artifacts: folder or URL of an object store, whose keys are in the environment.
        host: address to listen on.
        port: port to listen on.
        allowed_hosts: host names by which browsers and clients reach the server; loopback names are
            always allowed.
    """

    store: str
    artifacts: str
    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: Sequence[str] = ()


def serve(settings: ServerSettings) -> None:
    """Run the server until it is stopped.

    The environment variable MLFLOW_AUTH_ADMIN_PASSWORD becomes the password of the account `admin`
    if that does not exist yet. MLFLOW_FLASK_SERVER_SECRET_KEY signs forms; replicas of a server
    must share it, and a single server generates its own.

    Raises:
        UserError: a setting is unsafe, or the database does not answer.
        JobError: the account for jobs could not be created, or the server ended by itself.
    """
    _check_password(ADMIN_PASSWORD)
    _check_account()
    names = _allowed_hosts(settings)
    url = database_url(settings.store)
    _check_database(url)
    _check_address(settings.host, settings.port)
    bare = url.set(password=None).render_as_string(hide_password=False)
    with tempfile.TemporaryDirectory(prefix="intertitle-server-") as folder:
        environment = os.environ | {
            STORE: bare,
            "MLFLOW_ARTIFACTS_DESTINATION": settings.artifacts,
            "MLFLOW_AUTH_CONFIG_PATH": str(_write_auth_config(Path(folder), bare)),
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join(names),
            # Includes the server's own page, because browsers send the origin with every POST.
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
                f"{scheme}://{name}" for name in names for scheme in ("http", "https")
            ),
            # These jobs evaluate large language models, and would start three more processes.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        environment.setdefault(_SECRET_KEY, secrets.token_hex(32))
        if url.password:
            environment["PGPASSWORD"] = str(url.password)
        if os.environ.get(ACCOUNT):
            program = [sys.executable, "-m", "intertitle.training.tracking.server.account"]
            if subprocess.run(program, env=environment, check=False).returncode:
                raise JobError(f"{ACCOUNT}: MLflow makes no account")
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth"]
        address = ["--host", settings.host, "--port", str(settings.port)]
        with subprocess.Popen([*command, *address], env=environment) as server:
            try:
                code = server.wait()
            finally:
                if server.poll() is None:
                    server.terminate()
    raise JobError(f"MLflow's server ended with {code}")


def _check_password(variable: str) -> None:
    password = os.environ.get(variable, "")
    allowed = f"allowed: {_MIN_PASSWORD} characters or more, not beginning with 'password'"
    if not password:
        raise UserError(f"{variable}: not set, {allowed}")
    if len(password) < _MIN_PASSWORD or password.lower().startswith("password"):
        raise UserError(f"{variable}: too short or a known default, {allowed}")


def _check_account() -> None:
    """Check the account of jobs: all code of a job can read it, so it must not be the admin's."""
    name = os.environ.get(ACCOUNT)
    if not name:
        return
    if name == _ADMIN:
        raise UserError(f"{ACCOUNT}: {name!r}, allowed: a name of an account for jobs alone")
    _check_password(ACCOUNT_PASSWORD)
    if os.environ[ACCOUNT_PASSWORD] == os.environ[ADMIN_PASSWORD]:
        raise UserError(f"{ACCOUNT_PASSWORD}: that of {_ADMIN}, allowed: another")


def _allowed_hosts(settings: ServerSettings) -> list[str]:
    """Return the names as in the Host header: bare (behind a proxy) and with the port."""
    if settings.host not in _LOOPBACK and not settings.allowed_hosts:
        raise UserError(
            f"--host {settings.host}: needs --allowed-hosts, the names by which it is reached"
        )
    for name in settings.allowed_hosts:
        if not name or name == "*" or "/" in name:
            raise UserError(f"--allowed-hosts {name!r}, allowed: names of hosts, or 10.0.*")
    hosts = [*settings.allowed_hosts, *_LOOPBACK]
    with_port = [n for name in hosts for n in (name, f"{name}:{settings.port}")]
    return list(dict.fromkeys(with_port))


def database_url(store: str) -> URL:
    """Parse a PostgreSQL URL.

    Raises:
        UserError: it is not a PostgreSQL URL, or has a password in its query.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    allowed = "allowed: postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        url = make_url(store)
    except (ArgumentError, ValueError):
        raise UserError(f"{STORE}: not a URL, {allowed}") from None
    if url.get_backend_name() != "postgresql" or any("password" in key for key in url.query):
        raise UserError(f"{STORE}: {url.set(query={}).render_as_string()}, {allowed}")
    return url.set(drivername="postgresql+psycopg")


def _check_database(url: URL) -> None:
    """Check that the database answers; MLflow would retry for two minutes and log tracebacks."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    try:
        with create_engine(url, connect_args={"connect_timeout": 10}).connect():
            pass
    except ModuleNotFoundError as error:
        raise UserError(f"{error} (pip install 'intertitle[server]')") from error
    except OperationalError as error:
        reason = one_line(error.orig or error)
        raise UserError(f"{STORE} {url.render_as_string()}: {reason}") from error


def _check_address(host: str, port: int) -> None:
    """Check that the address is free; MLflow would exit with code 0 if another server uses it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"--host {host} --port {port}: {error.strerror}") from error


def _write_auth_config(folder: Path, store: str) -> Path:
    """Write the authentication settings, with the accounts in the same database as the runs.

    MLflow's default is a database file in the current folder.
    """
    config = configparser.ConfigParser(interpolation=None)
    config["mlflow"] = {
        "default_permission": _DEFAULT_PERMISSION,
        "database_uri": store.replace("%", "%%"),
        "admin_username": _ADMIN,
        # Its module also restricts artifact locations.
        "authorization_function": "intertitle.training.tracking.server.locations:authenticate",
        "auth_cache_ttl_seconds": str(_REMEMBER_S),
    }
    path = folder / "basic_auth.ini"
    with path.open("w", encoding="utf-8") as file:
        config.write(file)
    return path
