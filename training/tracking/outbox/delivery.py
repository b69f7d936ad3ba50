"""Delivery of journal entries to MLflow. Delivering an entry twice has no further effect.

MLflow is imported inside the functions: the import takes seconds and `intertitle --help` does not
need it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlflow import MlflowClient

Status = Literal["FINISHED", "FAILED", "KILLED"]

# Tag that lists which artifacts MLflow's page shows as tables.
_TABLES_TAG = "mlflow.loggedArtifacts"
# HTTP status "request timeout" and "too many requests": all other 4xx are refusals.
_TRY_LATER = {408, 429}


@dataclass(frozen=True)
class Entry:
    """One write of a run. It may have files, with the layout of the run's artifacts.

    Attributes:
        metrics: name, value, time in milliseconds since 1970, and step of each metric. MLflow's
            store ignores a value that it already has with the same time, so the time is that of the
            measurement, not of the delivery.
        tags: tags by name.
        table: path of the file that is a table; a later table with the same path replaces it.
        end: final status of the run, and end time in milliseconds since 1970.
    """

    metrics: Sequence[tuple[str, float, int, int]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None
    end: tuple[Status, int] | None = None


def deliver(client: MlflowClient, run_id: str, entry: Entry, files: Path) -> None:
    """Send an entry, and the files of a folder if it exists.

    Raises:
        Exception: MLflow does not answer or refuses the entry, see `is_away`.
    """
    from mlflow.entities import Metric, RunTag

    tags = dict(entry.tags)
    if files.is_dir():
        client.log_artifacts(run_id, str(files))
    if entry.table:
        logged = json.loads(client.get_run(run_id).data.tags.get(_TABLES_TAG, "[]"))
        table = {"path": entry.table, "type": "table"}
        tags[_TABLES_TAG] = json.dumps(logged if table in logged else [*logged, table])
    if entry.metrics or tags:
        metrics = [Metric(*metric) for metric in entry.metrics]
        client.log_batch(run_id, metrics, tags=[RunTag(*tag) for tag in tags.items()])
    if entry.end:
        client.set_terminated(run_id, *entry.end)


def is_away(error: BaseException) -> bool:
    """Return whether an error means that MLflow is unreachable, rather than a refusal."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    status = None
    if isinstance(error, MlflowException):
        status = error.get_http_status_code()
    elif isinstance(error, RequestException) and error.response is not None:
        status = error.response.status_code
    if status is not None:
        return status >= 500 or status in _TRY_LATER
    return isinstance(error, OSError)
