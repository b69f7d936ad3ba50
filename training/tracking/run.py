"""One training job is one MLflow run: what it was given, what it measured, what it said.

`TrackedRun` writes a run, in batches and from one process of the job; `store` finds and reads it.

MLflow is imported inside the functions: it takes seconds, and `intertitle --help` needs none of it.
"""

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from training.tracking import environment
from training.tracking.store import (
    CUT_MARK,
    LONG_PARAMS,
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
]

_log = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]

_MAX_DIGEST, _MAX_PARAM = 36, 6000  # MLflow's own limits, in characters


@dataclass(frozen=True)
class DataInput:
    """Something a run learned from or was measured on.

    `name` is unique in the run, `source` a path or URL, `digest` the full fingerprint (MLflow's
    dataset shows its first 36 characters, the tag `fingerprint.<name>` holds it whole), and
    `context` the use, for example `training`.
    """

    name: str
    source: str
    digest: str
    context: str


class TrackedRun:
    """An open MLflow run, made by `TrackedRun.start` or `reopen`; a context manager.

    Leaving the context sets FINISHED; an exception sets FAILED, Ctrl-C sets KILLED, each with its
    reason in the tag `error`.
    """

    def __init__(self, client: "MlflowClient", ref: RunRef, *, owns_status: bool = True) -> None:
        self.ref = ref
        self._client = client
        self._unfinished = owns_status

    @classmethod
    def start(
        cls,
        tracking_uri: str,
        experiment: str,
        name: str,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        inputs: Sequence[DataInput] = (),
    ) -> Self:
        """Create a run, and the experiment and a SQLite store where there are none yet.

        `params` are flat; text is logged as it is, anything else as JSON. A value too long for
        MLflow is cut there and kept whole in an artifact, where `params` finds it again.

        Raises:
            UserError: the store or server does not answer or refuses the run.
            ValueError: two inputs share a name.
        """
        if len({given.name for given in inputs}) < len(inputs):
            raise ValueError(f"inputs share a name: {[given.name for given in inputs]}")
        uri = absolute(tracking_uri)
        with answering(uri), impatient():
            client = open_client(uri)
            experiment_id = open_experiment(client, uri, experiment)
            all_tags = {"mlflow.source.name": "intertitle", **(tags or {})}
            info = client.create_run(experiment_id, tags=all_tags, run_name=name).info
            run = cls(client, RunRef(info.run_id, info.run_name, uri))
            try:
                run._describe(params or {}, inputs)
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
        from mlflow.entities import Metric, RunTag

        now_ms = int(time.time() * 1000)
        kept, tags = [], []
        for name, value in values.items():
            if math.isfinite(value):
                kept.append(Metric(name, float(value), now_ms, step))
            else:
                _log.warning("%s is %s at step %d: not logged", name, value, step)
                tags.append(RunTag(f"non_finite.{name}", f"{value} at step {step}"))
        self._write(self._client.log_batch, metrics=kept, tags=tags)

    def logged_steps(self, name: str) -> set[int]:
        """The steps at which a metric has been logged."""
        history = self._client.get_metric_history(self.run_id, name)
        return {metric.step for metric in history}

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Log `<name>.json`, a table that MLflow's page shows; the same name again adds rows."""
        columns = dict.fromkeys(column for row in rows for column in row)
        data = {column: [row.get(column) for row in rows] for column in columns}
        self._write(self._client.log_table, data, f"{name}.json")

    def figure(self, name: str, figure: "Figure") -> None:
        """Log `<name>.png`; the same name again replaces it."""
        self._write(self._client.log_figure, figure, f"{name}.png")

    def folder(self, local_dir: Path, artifact_path: str) -> None:
        """Log a folder's files under `artifact_path`."""
        self._write(self._client.log_artifacts, str(local_dir), artifact_path)

    def text(self, name: str, text: str) -> None:
        """Log a file of text; `name` holds its suffix."""
        self._write(self._client.log_text, text, name)

    def environment(self) -> None:
        """Log what ran: every installed package, and Python, platform and git commit as tags."""
        from mlflow.entities import RunTag

        self.text("environment/packages.txt", "\n".join(environment.packages()) + "\n")
        tags = [RunTag(*tag) for tag in environment.describe().items()]
        self._write(self._client.log_batch, tags=tags)

    def finish(self, status: Status = "FINISHED", reason: str = "") -> None:
        """Close the run; `reason`, one line, becomes the tag `error`.

        Only the first call counts, and none does for a run from `reopen`: a run's status says how
        its training ended, whatever is added later.
        """
        if self._unfinished:
            if reason:
                self._write(self._client.set_tag, "error", reason)
            self._write(self._client.set_terminated, status)
            self._unfinished = False

    def __enter__(self) -> Self:
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

    def _describe(self, params: Mapping[str, object], inputs: Sequence[DataInput]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        written = {key: _param(value) for key, value in params.items()}
        long = {key: value for key, value in written.items() if len(value) > _MAX_PARAM}
        cut = {key: value[: _MAX_PARAM - len(CUT_MARK)] + CUT_MARK for key, value in long.items()}
        self._write(
            self._client.log_batch,
            params=[Param(*param) for param in (written | cut).items()],
            tags=[RunTag(f"fingerprint.{given.name}", given.digest) for given in inputs],
        )
        if long:
            self._write(self._client.log_dict, long, LONG_PARAMS)
        datasets = []
        for given in inputs:
            scheme, is_url, _ = given.source.partition("://")
            uri = given.source if is_url else str(Path(given.source).absolute())
            dataset = Dataset(
                name=given.name,
                digest=given.digest[:_MAX_DIGEST],
                source_type=scheme if is_url else "local",
                source=json.dumps({"uri": uri}),
            )
            tag = InputTag("mlflow.data.context", given.context)
            datasets.append(DatasetInput(dataset, [tag]))
        if datasets:
            self._write(self._client.log_inputs, datasets)

    def _write(self, call: Callable[..., object], *args: object, **options: object) -> None:
        # The one door for everything written, so that one place can keep what MLflow cannot take.
        call(self.run_id, *args, **options)


def reopen(run: RunRef, *, running: bool = False) -> TrackedRun:
    """Open a run again to add to it: a later evaluation, or with `running` the rest of a training.

    Unless it is running again, its status, and the time it ended, stay. MLflow appends metrics and
    table rows and replaces files of the same name: a caller who adds chooses names of his own.
    """
    with answering(run.tracking_uri), impatient():
        client = open_client(run.tracking_uri)
        if running:
            client.update_run(run.run_id, status="RUNNING")
            if "error" in client.get_run(run.run_id).data.tags:
                client.delete_tag(run.run_id, "error")
        return TrackedRun(client, run, owns_status=running)


def _param(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
