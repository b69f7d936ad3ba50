"""Writing of metrics, tags and artifacts to a run, through its outbox.

MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from intertitle.training.tracking import environment
from intertitle.training.tracking.artifacts import write_table
from intertitle.training.tracking.order import now_ms
from intertitle.training.tracking.outbox.delivery import Entry
from intertitle.training.tracking.outbox.outbox import Fill, Outbox
from intertitle.training.tracking.store.client import RunRef

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)

# Tag that lists which artifacts MLflow's page shows as a model.
_MODELS_TAG = "mlflow.log-model.history"


class RunWriter:
    """Writer of metrics, tags and artifacts of one run.

    If MLflow becomes unreachable, writes do not fail: they are stored in the outbox and sent when
    MLflow is back, or by a later process. A refusal by MLflow is raised.

    Args:
        ref: id and name of the run, and its store.
        outbox: journal of the writes to the run.
    """

    def __init__(self, ref: RunRef, outbox: Outbox) -> None:
        self.ref = ref
        self._outbox = outbox

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

    def table(self, name: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Log a table as `<name>.json`, which MLflow's page shows, replacing one of the same name.

        A value of type bytes is a JPEG and displayed as an image; None is an empty cell.
        """
        path = f"{name}.json"
        self._write(Entry(table=path), lambda folder: write_table(folder, path, rows))

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

    def _log_machine(self, values: Mapping[str, float], step: int) -> None:
        measured_ms = now_ms()
        metrics = [(name, float(value), measured_ms, step) for name, value in values.items()]
        self._outbox.put(Entry(metrics), wait=False)

    def _write(self, entry: Entry, fill: Fill | None = None) -> None:
        self._outbox.put(entry, fill)


def _below(folder: Path, path: str) -> Path:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    return folder / path
