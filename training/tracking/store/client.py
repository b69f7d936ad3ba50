"""Stores of runs: open a store, find runs in it and read them.

A store is a SQLite file with the folder `mlartifacts/` next to it, another MLflow database, or an
MLflow server. MLflow is imported inside the functions: the import takes seconds, and neither
`--help` nor the model of a local run needs it.
"""

import atexit
import json
import logging
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.store.local_runs import (
    find_artifacts,
    find_run,
    local_path,
    split_model,
)
from intertitle.training.tracking.store.mlflow_errors import (
    mlflow_errors,
    one_line,
    redact,
    short_timeouts,
)
from intertitle.training.tracking.store.sqlite import (
    ARTIFACTS,
    absolute,
    database,
    default_tracking_uri,
    is_missing,
    opening,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = [
    "RunRef",
    "absolute",
    "check_store",
    "database",
    "default_tracking_uri",
    "download",
    "find_named",
    "open_client",
    "open_experiment",
    "params",
    "read_artifact",
    "resolve_run",
    "search_named",
]

LONG_PARAMS = "long_params.json"  # full values of the params that are too long for MLflow
CUT_MARK = f"... (whole in {LONG_PARAMS})"


@dataclass(frozen=True)
class RunRef:
    """Reference to an existing run in a store.

    Attributes:
        run_id: id of the run.
        name: name of the run.
        tracking_uri: tracking URI of the store.
    """

    run_id: str
    name: str
    tracking_uri: str


def resolve_run(spec: str, tracking_uri: str) -> RunRef:
    """Find a run that is not deleted.

    Args:
        spec: run id, `models:/name@alias`, `models:/name/version`, or the name of a run in any
            experiment. If several runs have the name, the newest FINISHED one is returned, or else
            the newest.
        tracking_uri: tracking URI of the store.

    Raises:
        UserError: the run does not exist, or the store does not answer.
    """
    uri = absolute(tracking_uri)
    if is_missing(uri):
        raise UserError(f"run {spec!r}: there are no runs yet at {redact(uri)}")
    file = database(uri)
    if file is not None and (local := find_run(file, spec)):
        return RunRef(*local, uri)
    with mlflow_errors(uri), short_timeouts():
        client = open_client(uri)
        run_id = _model_run_id(client, spec, uri) if spec.startswith("models:/") else spec
        run = _active_run(client, run_id) or _named_run(client, spec)
        if run is None:
            newest = ", ".join(listed.info.run_name for listed in _search(client, "", 3)) or "none"
            raise UserError(f"run {spec!r}: not found at {redact(uri)}; the newest are: {newest}")
    return RunRef(run.info.run_id, run.info.run_name, uri)


def find_named(name: str, tracking_uri: str) -> tuple[RunRef, bool] | None:
    """Find a run by name, and whether it has finished; None if there is none.

    If several runs have the name, the choice is that of `resolve_run`.

    Raises:
        UserError: the store does not answer.
    """
    uri = absolute(tracking_uri)
    if is_missing(uri):
        return None
    with mlflow_errors(uri), short_timeouts():
        run = _named_run(open_client(uri), name)
    if run is None:
        return None
    return RunRef(run.info.run_id, name, uri), run.info.status == "FINISHED"


def download(run: RunRef, artifact_path: str) -> Path:
    """Return a folder with artifacts of a run, to be read only.

    Artifacts that are not on this machine are downloaded to a folder that is deleted when the
    process ends.

    Raises:
        UserError: the run has no such folder, or the store does not answer.
    """
    file = database(run.tracking_uri)
    if file is not None and (local := find_artifacts(file, run.run_id, artifact_path)):
        return local
    with mlflow_errors(run.tracking_uri):
        client = open_client(run.tracking_uri)
        if not client.list_artifacts(run.run_id, artifact_path):
            available = (
                ", ".join(entry.path for entry in client.list_artifacts(run.run_id)) or "none"
            )
            location = _whereabouts(client.get_run(run.run_id).info.artifact_uri, run.tracking_uri)
            raise UserError(
                f"run {run.name}: no folder {artifact_path!r}; it has: {available}; {location}"
            )
        # MLflow's own temporary folder would not be deleted, and each one may hold a checkpoint.
        folder = tempfile.mkdtemp(prefix="intertitle-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(client.download_artifacts(run.run_id, artifact_path, folder))


def read_artifact(run: RunRef, artifact_path: str) -> bytes | None:
    """Return a file of a run's artifacts; None if it has no such file.

    Raises:
        UserError: the store does not answer.
    """
    folder = artifact_path.rpartition("/")[0] or None
    with mlflow_errors(run.tracking_uri), tempfile.TemporaryDirectory() as scratch:
        client = open_client(run.tracking_uri)
        if artifact_path not in {f.path for f in client.list_artifacts(run.run_id, folder)}:
            return None
        return Path(client.download_artifacts(run.run_id, artifact_path, scratch)).read_bytes()


def _whereabouts(artifact_uri: str, tracking_uri: str) -> str:
    """Describe where a run's artifacts are, and what to do if the location does not exist."""
    path = local_path(artifact_uri)
    if path is None:
        return f"its artifacts are in {redact(artifact_uri)}"
    if path.exists():
        return f"its artifacts are in {path}"
    message = f"its artifacts were in {path}, which is not there"
    file = database(tracking_uri)
    old_artifacts = next((p for p in path.parents if p.name == ARTIFACTS), None)
    if (
        file is None
        or old_artifacts is None
        or old_artifacts.exists()
        or not (file.parent / ARTIFACTS).is_dir()
    ):
        return message
    new_artifacts, old_folder = file.parent / ARTIFACTS, shlex.quote(str(old_artifacts.parent))
    link = f"ln -s {shlex.quote(str(new_artifacts))} {shlex.quote(str(old_artifacts))}"
    return f"{message}; if they are in {new_artifacts} now: mkdir -p {old_folder} && {link}"


def params(run: RunRef) -> dict[str, str]:
    """Return the run's parameters as they were logged, without truncation.

    Raises:
        UserError: the run does not exist, or the store does not answer.
    """
    with mlflow_errors(run.tracking_uri):
        client = open_client(run.tracking_uri)
        logged: dict[str, str] = dict(client.get_run(run.run_id).data.params)
        if any(value.endswith(CUT_MARK) for value in logged.values()):
            with tempfile.TemporaryDirectory() as folder:
                full_values = Path(client.download_artifacts(run.run_id, LONG_PARAMS, folder))
                logged |= json.loads(full_values.read_text("utf-8"))
    return logged


def open_client(uri: str) -> "MlflowClient":
    """Create an MLflow client. The first call imports MLflow, and may create a database."""
    from mlflow import MlflowClient

    log = logging.getLogger("mlflow.store.db.utils")  # logs each table that it creates
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with opening(uri):
            return MlflowClient(uri)
    finally:
        log.setLevel(level)


def check_store(tracking_uri: str) -> None:
    """Check that a store answers, before any work whose result it will store; create none.

    Raises:
        UserError: the store does not answer, or its database has to be migrated.
    """
    uri = absolute(tracking_uri)
    if is_missing(uri):
        return
    with mlflow_errors(uri), short_timeouts():
        open_client(uri).search_experiments(max_results=1)


def open_experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """Return the id of an experiment, which is created if it does not exist."""
    from mlflow.exceptions import MlflowException

    stored = client.get_experiment_by_name(name)
    if stored is None:
        # MLflow would store artifacts below the current folder of the process.
        file = database(uri)
        location = (file.parent / ARTIFACTS).as_uri() if file else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another job may have created it in the meantime.
            stored = client.get_experiment_by_name(name)
            if stored is None:
                raise
    if stored.lifecycle_stage != "active":
        raise UserError(f"experiment {name!r} at {redact(uri)} is deleted: restore or rename it")
    return str(stored.experiment_id)


def _model_run_id(client: "MlflowClient", spec: str, uri: str) -> str:
    from mlflow.exceptions import MlflowException

    model, separator, alias_or_version = split_model(spec)
    if not (model and alias_or_version):
        raise UserError(f"run {spec!r}: a model is models:/NAME@ALIAS or models:/NAME/VERSION")
    get_version = (
        client.get_model_version_by_alias if separator == "@" else client.get_model_version
    )
    try:
        version = get_version(model, alias_or_version)
    except MlflowException as error:
        raise UserError(f"run {spec!r} at {redact(uri)}: {one_line(error)}") from error
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
    """Return the run of a name that started last, or None."""
    quote = '"' if "'" in name else "'"
    if quote in name:
        return None  # MLflow's filters can't express such a name
    filter_text = f"attributes.run_name = {quote}{name}{quote}"
    return next(iter(_search(client, filter_text + condition, 1)), None)


def _search(client: "MlflowClient", condition: str, limit: int) -> list[Any]:
    experiments = [entry.experiment_id for entry in client.search_experiments(max_results=50_000)]
    order = ["attributes.start_time DESC"]
    return list(client.search_runs(experiments, condition, max_results=limit, order_by=order))
