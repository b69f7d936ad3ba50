"""Runs of a SQLite store and their files, read without MLflow, whose import takes seconds.

What is not found here is left to MLflow, which says why.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_RUN_BY_ID = "SELECT run_uuid, name FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"
_RUN_BY_NAME = """
    SELECT run_uuid, runs.name FROM runs JOIN experiments USING (experiment_id)
    WHERE runs.name = ? AND runs.lifecycle_stage = 'active'
    AND experiments.lifecycle_stage = 'active'
    ORDER BY status = 'FINISHED' DESC, start_time DESC LIMIT 1
"""
_RUN_OF_VERSION = """
    SELECT run_id FROM model_versions
    WHERE name = ? AND version = ? AND current_stage != 'Deleted_Internal'
"""
_RUN_OF_ALIAS = """
    SELECT run_id FROM registered_model_aliases JOIN model_versions USING (name, version)
    WHERE name = ? AND alias = ?
"""
_ARTIFACTS = "SELECT artifact_uri FROM runs WHERE run_uuid = ?"


def find_run(file: Path, spec: str) -> tuple[str, str] | None:
    """Return the id and the name of a run; None if it is not found.

    Args:
        file: SQLite file.
        spec: run as for `client.resolve_run`.
    """
    run_id: str | None = spec
    if spec.startswith("models:/"):
        model, separator, reference = split_model(spec)
        query = _RUN_OF_ALIAS if separator == "@" else _RUN_OF_VERSION
        (run_id,) = _first_row(file, query, model, reference) or (None,)
    run = _first_row(file, _RUN_BY_ID, run_id) or _first_row(file, _RUN_BY_NAME, spec)
    return (run[0], run[1]) if run else None


def find_artifacts(file: Path, run_id: str, artifact_path: str) -> Path | None:
    """Return a folder of a run's artifacts; None if it is empty or not on this machine."""
    (uri,) = _first_row(file, _ARTIFACTS, run_id) or (None,)
    root = local_path(uri) if uri else None
    folder = root / artifact_path if root else None
    return folder if folder and folder.is_dir() and any(folder.iterdir()) else None


def split_model(spec: str) -> tuple[str, str, str]:
    """Split `models:/NAME@ALIAS` or `models:/NAME/VERSION` at its separator."""
    reference = spec.removeprefix("models:/")
    return reference.partition("@" if "@" in reference else "/")


def local_path(uri: str) -> Path | None:
    """Return the path of artifacts on this machine; None if they are elsewhere."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _first_row(file: Path, query: str, *values: str | None) -> tuple[str, ...] | None:
    """Return the first row of a query; None without one, and if the file can't be read so."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as opened:
            row: tuple[str, ...] | None = opened.execute(query, values).fetchone()
    except sqlite3.Error:
        return None
    return row
