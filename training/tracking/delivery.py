"""What an entry of a run's journal is to MLflow. Sent twice, it is there once.

MLflow is imported inside the functions: it takes seconds, and `intertitle --help` needs none of it.
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

# The tag by which MLflow's page knows which artifacts are tables.
_TABLES_TAG = "mlflow.loggedArtifacts"
# HTTP's "request timeout" and "too many requests": all other 4xx are refusals.
_TRY_LATER = {408, 429}


@dataclass(frozen=True)
class Entry:
    """One thing that a run writes. Files may go with it, laid out as the run's artifacts are.

    Attributes:
        metrics: name, value, milliseconds since 1970 and step of each. MLflow's store drops what it
            has with the same time, so the time is when it was measured, not when it is sent.
        tags: by name.
        table: which of the files is a table; a later one of the same path replaces it.
        end: how the run ended, and when, in milliseconds since 1970.
    """

    metrics: Sequence[tuple[str, float, int, int]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    table: str | None = None
    end: tuple[Status, int] | None = None


def deliver(client: MlflowClient, run_id: str, entry: Entry, files: Path) -> None:
    """Send an entry, and the files in a folder that need not be there.

    Raises:
        Exception: MLflow does not answer or refuses it: see `is_away`.
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
    """Whether an error says that MLflow is not there now, rather than that it refuses."""
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
