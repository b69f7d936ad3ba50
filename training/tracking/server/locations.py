"""Restrict the artifact locations that clients may set to the artifact root of MLflow's server.

MLflow accepts any artifact location from a user who creates an experiment, such as `file:///etc` or
another bucket, and then reads and writes there with the rights and keys of the server. This module
checks every database row that names a location before it is written, independent of the endpoint.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS as PROMPT_SOURCES
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import (
    SqlExperiment,
    SqlLoggedModel,
    SqlRun,
    SqlTraceTag,
)
from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION, MLFLOW_TRACE_ARCHIVE_LOCATION
from sqlalchemy import event, inspect
from sqlalchemy.orm import Mapper

# URI scheme of artifacts that the server proxies, below a root that only the server knows.
_ROOT = "mlflow-artifacts"
# URI schemes of runs and models, which the server resolves to a location itself.
_BY_NAME = ("runs", "models")
# Name of the folder that the server assigns to an experiment: the id of the experiment.
_NUMBER = re.compile(r"\d+")
_FIELDS = {
    SqlExperiment: ("artifact_location",),
    SqlRun: ("artifact_uri",),
    SqlLoggedModel: ("artifact_location",),
    SqlModelVersion: ("source", "storage_location"),
    SqlTraceTag: ("value",),
}
# Tags with the locations of the spans of a trace.
_TAGS = (MLFLOW_ARTIFACT_LOCATION, MLFLOW_TRACE_ARCHIVE_LOCATION)
_ALLOWED = f"allowed: none, or {_ROOT}:/FOLDER"


def restrict_locations() -> None:
    """Check the rows that this process writes from now on."""
    for table in _FIELDS:
        for moment in ("before_insert", "before_update"):
            event.listen(table, moment, _check)


def _check(_: Mapper[Any], __: object, row: Any) -> None:
    """Check the locations of a row before it is written; unchanged values are not checked again."""
    state = inspect(row)
    for field in _FIELDS[type(row)]:
        value = getattr(row, field)
        # An experiment without a location gets the default location once it has an id.
        if value and state.attrs[field].history.has_changes():
            _check_field(row, field, value)


def _check_field(row: Any, field: str, value: str) -> None:
    if isinstance(row, SqlTraceTag) and row.key not in _TAGS:
        return
    is_reference = urlsplit(value).scheme in _BY_NAME or value in PROMPT_SOURCES
    if isinstance(row, SqlModelVersion) and is_reference:
        return
    first = _folder(field, value).partition("/")[0]
    is_number = _NUMBER.fullmatch(first) is not None
    if isinstance(row, SqlExperiment) and is_number and first != str(row.experiment_id):
        raise _refused(field, value)


def _folder(field: str, value: str) -> str:
    """Return the folder below the artifact root that a location names.

    Raises:
        MlflowException: the location is not below the root.
    """
    try:
        parts = urlsplit(value)
    except ValueError:
        raise _refused(field, value) from None
    path = parts.path
    while (decoded := unquote(path)) != path:
        path = decoded
    folders = [part for part in re.split(r"[/\\]", path) if part]
    inside = parts.scheme == _ROOT and not (parts.netloc or parts.query or parts.fragment)
    if not inside or not folders or ".." in folders or "\0" in path:
        raise _refused(field, value)
    return "/".join(folders)


def _refused(field: str, value: str) -> MlflowException:
    return MlflowException(f"{field}: {value!r}, {_ALLOWED}", INVALID_PARAMETER_VALUE)
