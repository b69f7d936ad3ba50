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
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pipeline.errors import UserError
from training.tracking.answers import answering, impatient, mlflow_command, one_line, shown
from training.tracking.sqlite import ARTIFACTS, absolute, database, opening

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Callers need this module alone.
__all__ = [
    "RunRef",
    "absolute",
    "answering",
    "check_store",
    "database",
    "default_tracking_uri",
    "download",
    "find_named",
    "impatient",
    "one_line",
    "open_client",
    "open_command",
    "open_experiment",
    "params",
    "resolve_run",
    "search_named",
    "shown",
]

LONG_PARAMS = "long_params.json"  # whole values of the params that MLflow's limit cuts
CUT_MARK = f"... (whole in {LONG_PARAMS})"

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
    # One worker is there in a third of the time that the default of four takes.
    return f"{mlflow_command()} ui --workers 1 --backend-store-uri {shlex.quote(shown(uri))}"


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
            where = _whereabouts(client.get_run(run.run_id).info.artifact_uri, run.tracking_uri)
            raise UserError(
                f"run {run.name}: no folder {artifact_path!r}; it has: {there}; {where}"
            )
        # MLflow's own temporary folder would stay behind, a checkpoint each time.
        folder = tempfile.mkdtemp(prefix="intertitle-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(client.download_artifacts(run.run_id, artifact_path, folder))


def _whereabouts(artifact_uri: str, tracking_uri: str) -> str:
    """Where a run's artifacts are, and what to do where that place is gone."""
    parts = urlsplit(artifact_uri)
    if parts.scheme not in ("", "file"):
        return f"its artifacts are in {shown(artifact_uri)}"
    place = Path(unquote(parts.path))
    if place.exists():
        return f"its artifacts are in {place}"
    told = f"its artifacts were in {place}, which is not there"
    file = database(tracking_uri)
    old = next((p for p in place.parents if p.name == ARTIFACTS), None)
    if file is None or old is None or old.exists() or not (file.parent / ARTIFACTS).is_dir():
        return told
    new, old_folder = file.parent / ARTIFACTS, shlex.quote(str(old.parent))
    link = f"ln -s {shlex.quote(str(new))} {shlex.quote(str(old))}"
    return f"{told}; if they are in {new} now: mkdir -p {old_folder} && {link}"


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
        with opening(uri):
            return MlflowClient(uri)
    finally:
        log.setLevel(level)


def check_store(tracking_uri: str) -> None:
    """Make sure that a store answers, before any work whose result it is to hold; none is created.

    Raises:
        UserError: it does not, or its database has to be migrated.
    """
    uri = absolute(tracking_uri)
    if (file := database(uri)) and not file.exists():
        return
    with answering(uri), impatient():
        open_client(uri).search_experiments(max_results=1)


def open_experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """The id of an experiment, created where there is none."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # MLflow would put artifacts below whatever folder the process happens to run in.
        file = database(uri)
        location = (file.parent / ARTIFACTS).as_uri() if file else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another job may have been faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(f"experiment {name!r} at {shown(uri)} is deleted: restore or rename it")
    return str(found.experiment_id)


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
    finished = search_named(client, name, " AND attributes.status = 'FINISHED'")
    return finished or search_named(client, name)


def search_named(client: "MlflowClient", name: str, condition: str = "") -> Any:
    """The run of a name that began last, or None."""
    quote = '"' if "'" in name else "'"
    if quote in name:
        return None  # MLflow's filter cannot say such a name
    called = f"attributes.run_name = {quote}{name}{quote}"
    return next(iter(_search(client, called + condition, 1)), None)


def _search(client: "MlflowClient", condition: str, limit: int) -> list[Any]:
    experiments = [found.experiment_id for found in client.search_experiments(max_results=50_000)]
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, condition, max_results=limit, order_by=order))
