"""The store of runs that a command uses, and the runs that it names."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from intertitle.jobs import console

if TYPE_CHECKING:
    from intertitle.training.tracking.store.client import RunRef


def tracking_store(uri: str | None) -> str:
    """Return the tracking URI of a command, and print it if it is a database of a folder above.

    Args:
        uri: value of `--tracking-uri`; None uses the store that `default_tracking_uri` finds.
    """
    from intertitle.training.tracking.store.client import database, default_tracking_uri

    if uri is not None:
        return uri
    chosen = default_tracking_uri()
    file = database(chosen)
    if file is not None and file.parent != Path.cwd():
        console.note(f"runs: {file}")
    return chosen


def find_run(spec: str, tracking_uri: str) -> RunRef:
    """Find a run, see `resolve_run`, and say so where a server takes a while."""
    from intertitle.training.tracking.store.client import resolve_run

    with console.step(f"looking for run {spec}"):
        return resolve_run(spec, tracking_uri)


def store_option(uri: str) -> str:
    """Return the option that makes a command use a store from here; "" if it does without it."""
    from intertitle.training.tracking.store.client import absolute, default_tracking_uri
    from intertitle.training.tracking.store.mlflow_errors import redact

    if absolute(uri) == default_tracking_uri():
        return ""
    below = absolute("sqlite:///")
    if uri.startswith(below):
        uri = f"sqlite:///{uri.removeprefix(below)}"
    return f" --tracking-uri {shlex.quote(redact(uri))}"
