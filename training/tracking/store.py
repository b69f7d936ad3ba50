"""Where runs are kept, and how one is found there: the reading half of tracking.

A store is a SQLite file with `mlartifacts/` beside it, another MLflow database, or an MLflow
server. MLflow is imported inside the functions: it takes seconds, and `--help` needs none of it.
"""

import atexit
import json
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LONG_PARAMS = "long_params.json"  # whole values of the params that MLflow's limit cuts
CUT_MARK = f"... (whole in {LONG_PARAMS})"

# What MLflow is asked for while it only has to be there; its own patience is some four minutes.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
# What each `impatient` block of this process set in the environment: all the same.
_impatient_blocks: list[dict[str, str]] = []
_lock = threading.Lock()

# Set before anything here imports MLflow: it must not call home, draw bars or print links.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@dataclass(frozen=True)
class RunRef:
    """A run that exists, and the store that holds it."""

    run_id: str
    name: str
    tracking_uri: str


def default_tracking_uri() -> str:
    """The environment's MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder."""
    return absolute(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def open_command(tracking_uri: str) -> str:
    """The shell command that serves MLflow's page for a database, or a server's address."""
    uri = absolute(tracking_uri)
    if uri.startswith(("http://", "https://")):
        return shown(uri)
    # The one of this environment, which need not be on the PATH. One worker is there in a third of
    # the time that the default of four takes.
    mlflow = Path(sys.executable).with_name("mlflow")
    here = mlflow.relative_to(Path.cwd()) if mlflow.is_relative_to(Path.cwd()) else mlflow
    return f"{shlex.quote(str(here))} ui --workers 1 --backend-store-uri {shlex.quote(shown(uri))}"


def resolve_run(spec: str, tracking_uri: str) -> RunRef:
    """Find the run that a person calls `spec`: only runs that are not deleted.

    `spec` is a run id, `models:/name@alias`, `models:/name/version`, or a run's name in any
    experiment. Of several runs with one name it is the newest FINISHED one, else the newest.

    Raises:
        UserError: there is no such run, or the store does not answer.
    """
    uri = absolute(tracking_uri)
    if (file := database(uri)) and not file.exists():
        raise UserError(f"run {spec!r}: there are no runs yet at {shown(uri)}")
    with answering(uri), impatient():
        client = open_client(uri)
        run_id = _model_run_id(client, spec, uri) if spec.startswith("models:/") else spec
        run = _active_run(client, run_id) or _named_run(client, spec)
        if run is None:
            newest = ", ".join(found.info.run_name for found in _search(client, "", 3)) or "none"
            raise UserError(f"run {spec!r}: not found at {shown(uri)}; the newest are: {newest}")
    return RunRef(run.info.run_id, run.info.run_name, uri)


def find_named(name: str, tracking_uri: str) -> tuple[RunRef, bool] | None:
    """The run of a name, and whether it has finished; of several as `resolve_run`. None where there
    is none.

    Raises:
        UserError: the store does not answer.
    """
    uri = absolute(tracking_uri)
    if (file := database(uri)) and not file.exists():
        return None
    with answering(uri), impatient():
        found = _named_run(open_client(uri), name)
    if found is None:
        return None
    return RunRef(found.info.run_id, name, uri), found.info.status == "FINISHED"


def download(run: RunRef, artifact_path: str) -> Path:
    """A local copy of the run's artifacts under `artifact_path`, there until the process ends.

    Raises:
        UserError: the run has no such folder, or the store does not answer.
    """
    with answering(run.tracking_uri):
        client = open_client(run.tracking_uri)
        if not client.list_artifacts(run.run_id, artifact_path):
            there = ", ".join(entry.path for entry in client.list_artifacts(run.run_id)) or "none"
            raise UserError(f"run {run.name}: no folder {artifact_path!r}; it has: {there}")
        # MLflow's own temporary folder would stay behind, a checkpoint each time.
        folder = tempfile.mkdtemp(prefix="intertitle-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(client.download_artifacts(run.run_id, artifact_path, folder))


def params(run: RunRef) -> dict[str, str]:
    """The run's parameters as they were logged, none of them cut.

    Raises:
        UserError: the run is gone, or the store does not answer.
    """
    with answering(run.tracking_uri):
        client = open_client(run.tracking_uri)
        logged: dict[str, str] = dict(client.get_run(run.run_id).data.params)
        if any(value.endswith(CUT_MARK) for value in logged.values()):
            with tempfile.TemporaryDirectory() as folder:
                whole = Path(client.download_artifacts(run.run_id, LONG_PARAMS, folder))
                logged |= json.loads(whole.read_text("utf-8"))
    return logged


def open_client(uri: str) -> "MlflowClient":
    """MLflow's client. Its first use in a process imports MLflow, and may create a database."""
    from mlflow import MlflowClient

    log = logging.getLogger("mlflow.store.db.utils")  # tells of each table it creates
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        return MlflowClient(uri)
    finally:
        log.setLevel(level)


def open_experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """The id of an experiment, created where there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # MLflow would put artifacts below whatever folder the process happens to run in.
        file = database(uri)
        location = (file.parent / "mlartifacts").as_uri() if file else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another job may have been faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(f"experiment {name!r} at {shown(uri)} is deleted: restore or rename it")
    return str(found.experiment_id)


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database or its server raise into one line that names the store."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = _refusal(error) or one_line(error)
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


def absolute(uri: str) -> str:
    """A tracking URI that means the same from any folder."""
    return re.sub(r"^sqlite:///(?!/)", lambda _: f"sqlite:///{Path.cwd()}/", uri)


def database(uri: str) -> Path | None:
    """The file of a SQLite store."""
    path = absolute(uri).partition("?")[0]
    return Path(path.removeprefix("sqlite:///")) if path.startswith("sqlite:////") else None


def shown(uri: str) -> str:
    """A URI without its password."""
    return re.sub(r"//([^/@:]*):[^/@]*@", r"//\1:***@", uri)


def one_line(error: BaseException) -> str:
    """An error's message on one line of at most 300 characters."""
    return shown(" ".join(str(error).split())[:300])


def _model_run_id(client: "MlflowClient", spec: str, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    rest = spec.removeprefix("models:/")
    mark = "@" if "@" in rest else "/"
    model, _, which = rest.partition(mark)
    if not (model and which):
        raise UserError(f"run {spec!r}: a model is models:/NAME@ALIAS or models:/NAME/VERSION")
    find = client.get_model_version_by_alias if mark == "@" else client.get_model_version
    try:
        version = find(model, which)
    except MlflowException as error:
        raise UserError(f"run {spec!r} at {shown(uri)}: {one_line(error)}") from error
    return str(version.run_id)


def _active_run(client: "MlflowClient", run_id: str) -> Any:
    from mlflow.exceptions import MlflowException

    if not re.fullmatch(r"[0-9a-f]{32}", run_id):
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _named_run(client: "MlflowClient", name: str) -> Any:
    quote = '"' if "'" in name else "'"
    if quote in name:
        return None  # MLflow's filter cannot say such a name
    called = f"attributes.run_name = {quote}{name}{quote}"
    finished = _search(client, f"{called} AND attributes.status = 'FINISHED'", 1)
    return next(iter(finished or _search(client, called, 1)), None)


def _search(client: "MlflowClient", condition: str, limit: int) -> list[Any]:
    experiments = [found.experiment_id for found in client.search_experiments(max_results=50_000)]
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, condition, max_results=limit, order_by=order))
