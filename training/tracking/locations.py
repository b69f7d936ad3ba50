"""Where MLflow's server may be told that artifacts are: below the root that it was given.

MLflow believes whoever creates an experiment that its artifacts are at `file:///etc` or in another
bucket, and then reads and writes there with the server's own rights and keys. Here every row that
names a place is looked at before it is written, whichever way the request came.

MLflow loads this module in each of its processes, as what tells who asks (`authorization_function`
of its settings for accounts).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS as PROMPT_SOURCES
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.server.auth import authenticate_request_basic_auth
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

# Artifacts that go through the server, below the root that only it knows.
_ROOT = "mlflow-artifacts"
# Other things of the server, which it looks up before it opens anything.
_BY_NAME = ("runs", "models")
# A folder that the server gives to an experiment, named by its number.
_NUMBER = re.compile(r"\d+")
_FIELDS = {
    SqlExperiment: ("artifact_location",),
    SqlRun: ("artifact_uri",),
    SqlLoggedModel: ("artifact_location",),
    SqlModelVersion: ("source", "storage_location"),
    SqlTraceTag: ("value",),
}
# By which the server finds the spans of a trace.
_TAGS = (MLFLOW_ARTIFACT_LOCATION, MLFLOW_TRACE_ARCHIVE_LOCATION)
_ALLOWED = f"allowed: none, or {_ROOT}:/FOLDER"

# MLflow calls it for each request: who asks, or an answer that refuses.
authenticate = authenticate_request_basic_auth


def _check(_: Mapper[Any], __: object, row: Any) -> None:
    """Look at what a row is about to say of places; what was said before is not looked at again."""
    state = inspect(row)
    for field in _FIELDS[type(row)]:
        value = getattr(row, field)
        # An experiment without a place gets the server's own choice when it has a number.
        if value and state.attrs[field].history.has_changes():
            _check_field(row, field, value)


def _check_field(row: Any, field: str, value: str) -> None:
    if isinstance(row, SqlTraceTag) and row.key not in _TAGS:
        return
    named = urlsplit(value).scheme in _BY_NAME or value in PROMPT_SOURCES
    if isinstance(row, SqlModelVersion) and named:
        return
    first = _folder(field, value).partition("/")[0]
    others = _NUMBER.fullmatch(first) and first != str(getattr(row, "experiment_id", first))
    if isinstance(row, SqlExperiment) and others:
        raise _refused(field, value)


def _folder(field: str, value: str) -> str:
    """The folder below the root that a location names.

    Raises:
        MlflowException: it is none, or leads out of the root.
    """
    try:
        parts = urlsplit(value)
    except ValueError:
        raise _refused(field, value) from None
    path = parts.path
    while (plain := unquote(path)) != path:
        path = plain
    folders = [part for part in re.split(r"[/\\]", path) if part]
    inside = parts.scheme == _ROOT and not (parts.netloc or parts.query or parts.fragment)
    if not inside or not folders or ".." in folders or "\0" in path:
        raise _refused(field, value)
    return "/".join(folders)


def _refused(field: str, value: str) -> MlflowException:
    return MlflowException(f"{field}: {value!r}, {_ALLOWED}", INVALID_PARAMETER_VALUE)


for _table in _FIELDS:
    for _moment in ("before_insert", "before_update"):
        event.listen(_table, _moment, _check)
