"""Tracking of a training job as one MLflow run: its inputs, metrics and outputs.

`TrackedRun` writes a run from one process of the job, through its `outbox`, so that an unreachable
server does not stop the job. The package `store` finds and reads runs.

MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

import json
import logging
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from intertitle.training.tracking import environment
from intertitle.training.tracking.artifacts import read_table, write_table
from intertitle.training.tracking.inputs import DataInput, check_inputs, describe_run
from intertitle.training.tracking.order import now_ms, stamp_after, start_after
from intertitle.training.tracking.outbox.delivery import Entry, Status
from intertitle.training.tracking.outbox.outbox import Fill, Outbox, send_journals, send_kept
from intertitle.training.tracking.store.client import (
    RunRef,
    absolute,
    default_tracking_uri,
    download,
    mlflow_errors,
    one_line,
    open_client,
    open_command,
    open_experiment,
    params,
    resolve_run,
    short_timeouts,
)
from intertitle.training.tracking.system_metrics import MachineMonitor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

# Names that callers import from this module.
__all__ = [
    "DataInput",
    "RunRef",
    "Status",
    "TrackedRun",
    "default_tracking_uri",
    "download",
    "open_command",
    "params",
    "reopen",
    "resolve_run",
    "send_kept",
]

_log = logging.getLogger(__name__)

_CHECKPOINTS_TAG, _JOURNAL = "checkpoints", "journal"
# Tag that lists which artifacts MLflow's page shows as a model.
_MODELS_TAG = "mlflow.log-model.history"


class TrackedRun:
    """Open MLflow run and context manager, created by `TrackedRun.start` or `reopen`.

    Leaving the context sets the status FINISHED; an exception sets FAILED and Ctrl-C sets KILLED,
    each with its reason in the tag `error`. Inside the context, system metrics are logged too,
    unless the run is only reopened to add to it.

    If MLflow becomes unreachable, writes do not fail: they are stored next to the run's checkpoints
    and sent when MLflow is back, or by a later process. A refusal by MLflow is raised.

    Attributes:
        ref: id and name of the run, and its store.
    """

    def __init__(
        self, client: "MlflowClient", ref: RunRef, began_ms: int, home: Path, *, owns: bool = True
    ) -> None:
        self.ref = ref
        self._client = client
        self._unfinished = owns
        self._began_ms = began_ms
        self._outbox = Outbox(client, ref, home)
        self._machine = MachineMonitor(ref.run_id, ref.tracking_uri, began_ms, self._log_machine)

    @classmethod
    def start(
        cls,
        tracking_uri: str,
        experiment: str,
        name: str,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        inputs: Sequence[DataInput] = (),
        checkpoints: Path | None = None,
    ) -> Self:
        """Create a run, and the experiment and a SQLite store if they do not exist.

        Args:
            tracking_uri: tracking URI of the store.
            experiment: name of the experiment.
            name: name of the run.
            params: parameters, not nested. Text is logged unchanged and anything else as JSON. A
                value that is too long for MLflow is truncated there and stored in full in an
                artifact, from which the function `params` reads it.
            tags: tags by name.
            inputs: data that the run is trained or evaluated on.
            checkpoints: folder of checkpoints, with one folder per run; entries that can't be sent
                are stored in the run's folder. None stores them in a temporary folder.

        Raises:
            UserError: the store or server does not answer or refuses the run.
            ValueError: two inputs share a name.
        """
        check_inputs(inputs)
        uri = absolute(tracking_uri)
        with mlflow_errors(uri), short_timeouts():
            client = open_client(uri)
            experiment_id = open_experiment(client, uri, experiment)
            all_tags = {"mlflow.source.name": "intertitle", **(tags or {})}
            if checkpoints:
                all_tags[_CHECKPOINTS_TAG] = str(checkpoints.absolute())
            info = client.create_run(
                experiment_id, start_time=start_after(client, name), tags=all_tags, run_name=name
            ).info
            ref = RunRef(info.run_id, info.run_name, uri)
            home = checkpoints.absolute() / info.run_id / _JOURNAL if checkpoints else None
            run = cls(client, ref, info.start_time, home or _scratch())
            try:
                describe_run(client, info.run_id, params or {}, inputs)
            except BaseException as error:
                run.__exit__(type(error), error, None)
                raise
        return run

    @property
    def run_id(self) -> str:
        return self.ref.run_id

    @property
    def name(self) -> str:
        return self.ref.name

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Log the values of one step in one request.

        NaN and infinity can't be plotted or compared: they are left out with a warning, and the
        tag `non_finite.<name>` records the value and the step. They do not end the training; the
        training loop decides that.
        """
        measured_ms = now_ms()
        finite: list[tuple[str, float, int, int]] = []
        tags = {}
        for name, value in values.items():
            if math.isfinite(value):
                finite.append((name, float(value), measured_ms, step))
            else:
                _log.warning("%s is %s at step %d: not logged", name, value, step)
                tags[f"non_finite.{name}"] = f"{value} at step {step}"
        self._write(Entry(finite, tags))

    def logged_steps(self, name: str) -> set[int]:
        """Return the steps at which a metric has been logged.

        Raises:
            UserError: the store does not answer.
        """
        with mlflow_errors(self.ref.tracking_uri), short_timeouts():
            history = self._client.get_metric_history(self.run_id, name)
        return {metric.step for metric in history}

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Log a table as `<name>.json`, which MLflow's page shows, replacing one of the same name.

        A value of type bytes is a JPEG and displayed as an image; None is an empty cell.
        """
        path = f"{name}.json"
        self._write(Entry(table=path), lambda folder: write_table(folder, path, rows))

    def new_stamp(self, folder: str) -> str:
        """Return a timestamp as a name that sorts after all timestamped folders below `folder`."""
        with mlflow_errors(self.ref.tracking_uri), short_timeouts():
            return stamp_after(self._client, self.run_id, folder)

    def logged_rows(self, name: str) -> list[dict[str, object]]:
        """Return the rows of a logged table; an empty list if it has not been logged.

        Raises:
            UserError: the store does not answer.
        """
        path = f"{name}.json"
        with mlflow_errors(self.ref.tracking_uri), tempfile.TemporaryDirectory() as folder:
            parent = str(Path(path).parent)
            artifacts = self._client.list_artifacts(self.run_id, None if parent == "." else parent)
            if path not in {artifact.path for artifact in artifacts}:
                return []
            return read_table(Path(self._client.download_artifacts(self.run_id, path, folder)))

    def figure(self, name: str, figure: "Figure") -> None:
        """Log a figure as `<name>.png`, replacing one of the same name."""
        self._write(Entry(), lambda folder: figure.savefig(_below(folder, f"{name}.png")))

    def folder(self, local_dir: Path, artifact_path: str) -> None:
        """Log the files of a folder under `artifact_path`."""
        self._write(
            Entry(), lambda folder: shutil.copytree(local_dir, _below(folder, artifact_path))
        )

    def model(self, local_dir: Path, name: str) -> None:
        """Log a folder that contains an MLflow model, replacing one of the same name.

        The run's page shows it as a model, and its URI is `runs:/<run id>/<name>`.
        """
        from mlflow.models import Model

        mlflow_model = Model.load(str(local_dir))
        mlflow_model.run_id, mlflow_model.artifact_path = self.run_id, name

        def fill(folder: Path) -> None:
            shutil.copytree(local_dir, _below(folder, name))
            mlflow_model.save(str(folder / name / "MLmodel"))

        self._write(Entry(tags={_MODELS_TAG: json.dumps([mlflow_model.get_tags_dict()])}), fill)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; existing values are replaced."""
        self._write(Entry(tags=values))

    def text(self, name: str, text: str) -> None:
        """Log a text file; `name` includes the suffix."""
        self._write(Entry(), lambda folder: _below(folder, name).write_text(text, "utf-8"))

    def environment(self) -> None:
        """Log all installed packages as a file, and Python, platform and git commit as tags."""
        self.text("environment/packages.txt", "\n".join(environment.packages()) + "\n")
        self.tags(environment.describe())

    def finish(self, status: Status = "FINISHED", reason: str = "") -> None:
        """Close the run; `reason`, one line, becomes the tag `error`.

        Only the first call has an effect. A run from `reopen` keeps its status, which says how the
        training ended, unless it was opened with `running`.
        """
        self._machine.stop()
        try:
            if self._unfinished:
                self._unfinished = False
                tags = {"error": reason} if reason else {}
                # An earlier refusal is raised afterwards: the run has to end in any case.
                end = Entry(tags=tags, end=(status, max(now_ms(), self._began_ms)))
                self._outbox.put(end, wait=False)
        finally:
            self._outbox.close()

    def __enter__(self) -> Self:
        if self._unfinished:
            self._machine.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish()
            return
        status: Status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
        try:
            self.finish(status, f"{type(error).__name__}: {one_line(error)}")
        except Exception as unreachable:  # must not hide the error that ended the job
            error.add_note(f"run {self.name} stays RUNNING: {one_line(unreachable)}")

    def _log_machine(self, values: Mapping[str, float], step: int) -> None:
        measured_ms = now_ms()
        metrics = [(name, float(value), measured_ms, step) for name, value in values.items()]
        self._outbox.put(Entry(metrics), wait=False)

    def _write(self, entry: Entry, fill: Fill | None = None) -> None:
        self._outbox.put(entry, fill)


def reopen(run: RunRef, *, running: bool = False) -> TrackedRun:
    """Reopen a run to add to it.

    Entries that a killed process could not send are sent first. MLflow appends metrics and replaces
    files of the same name: a caller that adds files must choose new names.

    Args:
        run: run to open.
        running: True to continue a training, which sets the status RUNNING; False to add, for
            example, an evaluation, which keeps the status and the end time.

    Raises:
        UserError: the store does not answer.
    """
    with mlflow_errors(run.tracking_uri), short_timeouts():
        client = open_client(run.tracking_uri)
        stored = client.get_run(run.run_id)
        run_folder = Path(stored.data.tags.get(_CHECKPOINTS_TAG, "")) / run.run_id
        # The checkpoints may be on another machine.
        home = (
            run_folder / _JOURNAL
            if run_folder.is_absolute() and run_folder.is_dir()
            else _scratch()
        )
        send_journals(client, run, home)
        if running:
            client.update_run(run.run_id, status="RUNNING")
            if "error" in client.get_run(run.run_id).data.tags:
                client.delete_tag(run.run_id, "error")
        return TrackedRun(client, run, stored.info.start_time, home, owns=running)


def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="intertitle-journal-"))


def _below(folder: Path, path: str) -> Path:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    return folder / path
