"""What MLflow, its database or its server answer, as a person reads it.

MLflow is imported inside the functions: it takes seconds, and `intertitle --help` needs none of it.
"""

import os
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError

# What MLflow is asked for while it only has to be there; its own patience is some four minutes.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
# What each `impatient` block of this process set in the environment: all the same.
_impatient_blocks: list[dict[str, str]] = []
_lock = threading.Lock()


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database or its server raise into one line that names the store."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = _refusal(error) or _migration(error, uri) or one_line(error)
        raise UserError(f"MLflow at {shown(uri)}: {reason}") from error


def _refusal(error: Exception) -> str:
    """What a server's refusal means for who is refused; nothing for another error."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    code = getattr(error, "error_code", None)
    if code == "UNAUTHENTICATED":
        asked = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        return f"user {user!r}: unknown, or another password, allowed: {asked} of an account there"
    if code == "PERMISSION_DENIED" and "Permission denied" in str(error):
        return f"user {user!r} may not do this there: its owner or an admin grants it"
    return ""


def _migration(error: Exception, uri: str) -> str:
    """What to do about a database of another version of MLflow; nothing for another error."""
    found = re.search(r"out-of-date database schema \(found version (\w+)", str(error))
    if found is None:
        return ""
    from alembic.script import ScriptDirectory
    from mlflow import __version__
    from mlflow.store.db.utils import _get_alembic_config

    try:
        ScriptDirectory.from_config(_get_alembic_config("")).get_revision(found[1])
    except Exception:  # alembic has several, of which this is one
        return f"its database is of a newer MLflow than {__version__}, which is installed here"
    command = f"{mlflow_command()} db upgrade {shlex.quote(shown(uri))}"
    return f"its database is of an older MLflow; keep a copy of it, then run: {command}"


@contextmanager
def impatient() -> Iterator[None]:
    """Let an absent server fail in seconds. A person's own MLflow settings win."""
    # Threads overlap: the first that comes sets them, the last that leaves takes them away.
    with _lock:
        if not _impatient_blocks:
            added = {key: value for key, value in _IMPATIENT.items() if key not in os.environ}
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


def shown(uri: str) -> str:
    """A URI without its password."""
    return re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:***@", uri)


def one_line(error: BaseException) -> str:
    """An error's message on one line of at most 300 characters."""
    return shown(" ".join(str(error).split())[:300])


def mlflow_command() -> str:
    """MLflow's command of this environment, which need not be on the PATH."""
    mlflow = Path(sys.executable).with_name("mlflow")
    here = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
    return shlex.quote(str(here))
