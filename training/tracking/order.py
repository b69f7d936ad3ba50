"""Order of runs and artifacts when the clocks of hosts differ.

MLflow stores the time that the client sends. A new entry therefore gets a time after all existing
entries, as with Lamport clocks: an entry of a host whose clock is behind is still the newest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from intertitle.training.tracking.outbox.delivery import is_away
from intertitle.training.tracking.store.client import search_named

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STAMP = "%Y%m%dT%H%M%S.%f"


def now_ms() -> int:
    """Return the current time in milliseconds since 1970."""
    return int(time.time() * 1000)


def start_after(client: MlflowClient, name: str) -> int:
    """Return a start time for a run in milliseconds: now, but after all runs of the same name."""
    newest = search_named(client, name)
    return now_ms() if newest is None else max(now_ms(), newest.info.start_time + 1)


def stamp_after(client: MlflowClient, run_id: str, folder: str) -> str:
    """Return a timestamp as a folder name that sorts after all timestamped folders below `folder`.

    While MLflow is unreachable, the current time is used unchanged.
    """
    now = datetime.now(UTC)
    try:
        for path in _folders_below(client, run_id, folder):
            with suppress(ValueError):
                existing = datetime.strptime(path.rpartition("/")[2], _STAMP).replace(tzinfo=UTC)
                now = max(now, existing + timedelta(microseconds=1))
    except Exception as error:
        if not is_away(error):
            raise
    return now.strftime(_STAMP)


def _folders_below(client: MlflowClient, run_id: str, path: str) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, path):
        if entry.is_dir:
            yield entry.path
            yield from _folders_below(client, run_id, entry.path)
