"""One training job is one MLflow run: what it was given, what it measured, what it said.

`TrackedRun` writes a run, from one process of the job and through its `outbox`, so that a server
that goes away stops nothing; `store` finds and reads it.

MLflow is imported inside the functions: it takes seconds, and `intertitle --help` needs none of it.
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

from training.tracking import environment
from training.tracking.delivery import Entry, Status
from training.tracking.inputs import DataInput, check_inputs, describe_run
from training.tracking.machine import MachineWatch
from training.tracking.order import now_ms, stamp_after, start_after
from training.tracking.outbox import Fill, Outbox, send_journals, send_kept
from training.tracking.store import (
    RunRef,
    absolute,
    answering,
    default_tracking_uri,
    download,
    impatient,
    one_line,
    open_client,
    open_command,
    open_experiment,
    params,
    resolve_run,
)
from training.tracking.tables import read_table, write_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

# Callers need this module alone.
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
# By which MLflow's page knows which artifacts are a model.
_MODELS_TAG = "mlflow.log-model.history"


class TrackedRun:
    """An open MLflow run, made by `TrackedRun.start` or `reopen`; a context manager.

    Leaving the context sets FINISHED; an exception sets FAILED, Ctrl-C sets KILLED, each with its
    reason in the tag `error`. Inside it, the machine's state is logged too, unless the run is only
    reopened to add to it.

    When MLflow goes away, writing goes on: what could not be sent is kept beside the run's
    checkpoints, and sent when it is back or by a later process. What MLflow refuses is raised.
    """

    def __init__(
        self, client: "MlflowClient", ref: RunRef, began_ms: int, home: Path, *, owns: bool = True
    ) -> None:
        self.ref = ref
        self._client = client
        self._unfinished = owns
        self._began_ms = began_ms
        self._outbox = Outbox(client, ref, home)
        self._machine = MachineWatch(ref.run_id, ref.tracking_uri, began_ms, self._log_machine)

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
        """Create a run, and the experiment and a SQLite store where there are none yet.

        `params` are flat; text is logged as it is, anything else as JSON. A value too long for
        MLflow is cut there and kept whole in an artifact, where `params` finds it again. In
        `checkpoints` the run has a folder of its own, where what can't be sent is kept.

        Raises:
            UserError: the store or server does not answer or refuses the run.
            ValueError: two inputs share a name.
        """
        check_inputs(inputs)
        uri = absolute(tracking_uri)
        with answering(uri), impatient():
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
        """Log the values of one step in one call.

        A NaN or an infinity cannot be drawn or compared: it is left out with a warning, and the
        tag `non_finite.<name>` tells the value and the step. It is the loop that ends a training.
        """
        measured_ms = now_ms()
        kept: list[tuple[str, float, int, int]] = []
        tags = {}
        for name, value in values.items():
            if math.isfinite(value):
                kept.append((name, float(value), measured_ms, step))
            else:
                _log.warning("%s is %s at step %d: not logged", name, value, step)
                tags[f"non_finite.{name}"] = f"{value} at step {step}"
        self._write(Entry(kept, tags))

    def logged_steps(self, name: str) -> set[int]:
        """The steps at which a metric has been logged.

        Raises:
            UserError: the store does not answer.
        """
        with answering(self.ref.tracking_uri), impatient():
            history = self._client.get_metric_history(self.run_id, name)
        return {metric.step for metric in history}

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Log `<name>.json`, a table that MLflow's page shows; the same name again replaces it.

        A value of bytes is a JPEG, and shown as such; None is an empty cell.
        """
        path = f"{name}.json"
        self._write(Entry(table=path), lambda folder: write_table(folder, path, rows))

    def new_stamp(self, folder: str) -> str:
        """A name, the time, that sorts after those of all stamped folders below one."""
        with answering(self.ref.tracking_uri), impatient():
            return stamp_after(self._client, self.run_id, folder)

    def logged_rows(self, name: str) -> list[dict[str, object]]:
        """The rows of a table that has been logged; none if it has not.

        Raises:
            UserError: the store does not answer.
        """
        path = f"{name}.json"
        with answering(self.ref.tracking_uri), tempfile.TemporaryDirectory() as folder:
            parent = str(Path(path).parent)
            there = self._client.list_artifacts(self.run_id, None if parent == "." else parent)
            if path not in {artifact.path for artifact in there}:
                return []
            return read_table(Path(self._client.download_artifacts(self.run_id, path, folder)))

    def figure(self, name: str, figure: "Figure") -> None:
        """Log `<name>.png`; the same name again replaces it."""
        self._write(Entry(), lambda folder: figure.savefig(_below(folder, f"{name}.png")))

    def folder(self, local_dir: Path, artifact_path: str) -> None:
        """Log a folder's files under `artifact_path`."""
        self._write(
            Entry(), lambda folder: shutil.copytree(local_dir, _below(folder, artifact_path))
        )

    def model(self, local_dir: Path, name: str) -> None:
        """Log a folder that holds an MLflow model; the same name again replaces it.

        The run's page shows it as a model, and `runs:/<run id>/<name>` is its URI.
        """
        from mlflow.models import Model

        described = Model.load(str(local_dir))
        described.run_id, described.artifact_path = self.run_id, name

        def fill(folder: Path) -> None:
            shutil.copytree(local_dir, _below(folder, name))
            described.save(str(folder / name / "MLmodel"))

        self._write(Entry(tags={_MODELS_TAG: json.dumps([described.get_tags_dict()])}), fill)

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags; the same name again replaces its value."""
        self._write(Entry(tags=values))

    def text(self, name: str, text: str) -> None:
        """Log a file of text; `name` holds its suffix."""
        self._write(Entry(), lambda folder: _below(folder, name).write_text(text, "utf-8"))

    def environment(self) -> None:
        """Log what ran: every installed package, and Python, platform and git commit as tags."""
        self.text("environment/packages.txt", "\n".join(environment.packages()) + "\n")
        self.tags(environment.describe())

    def finish(self, status: Status = "FINISHED", reason: str = "") -> None:
        """Close the run; `reason`, one line, becomes the tag `error`.

        Only the first call counts. The status of a run from `reopen` stays: it says how the
        training ended, whatever is added later.
        """
        self._machine.stop()
        try:
            if self._unfinished:
                self._unfinished = False
                tags = {"error": reason} if reason else {}
                # What was refused before is told after it: the run has to end, too.
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
    """Open a run again to add to it: a later evaluation, or with `running` the rest of a training.

    Unless it is running again, its status, and the time it ended, stay. What a process that was
    killed could not send is sent first. MLflow appends metrics and replaces files of the same name:
    a caller who adds chooses names of his own.

    Raises:
        UserError: the store does not answer.
    """
    with answering(run.tracking_uri), impatient():
        client = open_client(run.tracking_uri)
        found = client.get_run(run.run_id)
        kept = Path(found.data.tags.get(_CHECKPOINTS_TAG, "")) / run.run_id
        # They may be on another machine.
        home = kept / _JOURNAL if kept.is_absolute() and kept.is_dir() else _scratch()
        send_journals(client, run, home)
        if running:
            client.update_run(run.run_id, status="RUNNING")
            if "error" in client.get_run(run.run_id).data.tags:
                client.delete_tag(run.run_id, "error")
        return TrackedRun(client, run, found.info.start_time, home, owns=running)


def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="intertitle-journal-"))


def _below(folder: Path, path: str) -> Path:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    return folder / path
