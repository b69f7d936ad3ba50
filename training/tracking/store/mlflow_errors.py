"""Readable messages for errors of MLflow, its database or its server.

MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from intertitle.pipeline.errors import UserError

# Timeouts for requests that only need a quick answer; MLflow's default is about four minutes.
_SHORT_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
# Environment variables set by the active `short_timeouts` blocks; the same for all of them.
_impatient_blocks: list[dict[str, str]] = []
_lock = threading.Lock()


@contextmanager
def mlflow_errors(uri: str) -> Iterator[None]:
    """Turn errors of MLflow, its database or its server into a `UserError` that names the store."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = as_user_message(error) or _migration(error, uri) or one_line(error)
        raise UserError(f"MLflow at {redact(uri)}: {reason}") from error


def as_user_message(error: Exception) -> str:
    """Describe a server's refusal to the user; return "" for another error."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    code = getattr(error, "error_code", None)
    if code == "UNAUTHENTICATED":
        variables = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return (
            f"user {user!r}: unknown, or another password, allowed: {variables} of an account there"
        )
    if code == "PERMISSION_DENIED" and "Permission denied" in str(error):
        return f"user {user!r} may not do this there: its owner or an admin grants it"
    return ""


def _migration(error: Exception, uri: str) -> str:
    """Describe how to fix a database of another MLflow version; return "" for another error."""
    match = re.search(r"out-of-date database schema \(found version (\w+)", str(error))
    if match is None:
        return ""
    from alembic.script import ScriptDirectory
    from mlflow import __version__

    migrations = resources.files("mlflow.store") / "db_migrations"
    try:
        ScriptDirectory(str(migrations)).get_revision(match[1])
    except Exception:  # Alembic raises several classes for an unknown revision
        return f"its database is of a newer MLflow than {__version__}, which is installed here"
    command = f"{mlflow_command()} db upgrade {shlex.quote(redact(uri))}"
    return f"its database is of an older MLflow; keep a copy of it, then run: {command}"


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Make requests to an unreachable server fail within seconds, unless the user set timeouts."""
    # Blocks of several threads may overlap: the first sets the variables, the last removes them.
    with _lock:
        if not _impatient_blocks:
            added = {key: value for key, value in _SHORT_TIMEOUTS.items() if key not in os.environ}
            os.environ.update(added)
        else:
            added = _impatient_blocks[0]
        _impatient_blocks.append(added)
    try:
        yield
    finally:
        with _lock:
            _impatient_blocks.pop()
            if not _impatient_blocks:
                for key in added:
                    os.environ.pop(key, None)


def redact(uri: str) -> str:
    """Mask the password in a URI."""
    return re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:***@", uri)


def one_line(error: BaseException) -> str:
    """Return the message of an error on one line of at most 300 characters."""
    return redact(" ".join(str(error).split())[:300])


def mlflow_command() -> str:
    """Return the path of this environment's MLflow command, which need not be on the PATH."""
    mlflow = Path(sys.executable).with_name("mlflow")
    path = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
    return shlex.quote(str(path))
