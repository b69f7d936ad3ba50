"""Tracking of a training job as one MLflow run: its inputs, metrics and outputs.

`TrackedRun` writes a run from one process of the job, through its `outbox`, so that an unreachable
server does not stop the job. The package `store` finds and reads runs.

MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from intertitle.training.tracking.artifacts import read_table
from intertitle.training.tracking.inputs import DataInput, check_inputs, describe_run
from intertitle.training.tracking.order import now_ms, stamp_after, start_after
from intertitle.training.tracking.outbox.delivery import Entry, Status
from intertitle.training.tracking.outbox.outbox import Outbox, send_journals, send_kept
from intertitle.training.tracking.run_writer import RunWriter
from intertitle.training.tracking.store.client import (
    RunRef,
    default_tracking_uri,
    download,
    open_client,
    open_experiment,
    params,
    resolve_run,
)
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors, one_line, short_timeouts
from intertitle.training.tracking.store.sqlite import absolute
from intertitle.training.tracking.system_metrics import MachineMonitor

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Names that callers import from this module.
__all__ = [
    "DataInput",
    "RunRef",
    "Status",
    "TrackedRun",
    "default_tracking_uri",
    "download",
    "params",
    "reopen",
    "resolve_run",
    "send_kept",
]

_CHECKPOINTS_TAG, _JOURNAL = "checkpoints", "journal"


class TrackedRun(RunWriter):
    """Open MLflow run and context manager, created by `TrackedRun.start` or `reopen`.

    Leaving the context sets the status FINISHED; an exception sets FAILED and Ctrl-C sets KILLED,
    each with its reason in the tag `error`. Inside the context, system metrics are logged too,
    unless the run is only reopened to add to it.

    Writes that can't be sent are stored next to the run's checkpoints.

    Attributes:
        ref: id and name of the run, and its store.
    """

    def __init__(
        self, client: "MlflowClient", ref: RunRef, began_ms: int, home: Path, *, owns: bool = True
    ) -> None:
        super().__init__(ref, Outbox(client, ref, home))
        self._client = client
        self._unfinished = owns
        self._began_ms = began_ms
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

    def logged_steps(self, name: str) -> set[int]:
        """Return the steps at which a metric has been logged.

        Raises:
            UserError: the store does not answer.
        """
        with mlflow_errors(self.ref.tracking_uri), short_timeouts():
            history = self._client.get_metric_history(self.run_id, name)
        return {metric.step for metric in history}

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
