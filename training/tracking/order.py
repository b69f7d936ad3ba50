"""What is newer than what, where the clocks of hosts differ.

MLflow keeps the time that a client tells. So what is new gets a time after all that is there
already, as in Lamport's clocks: a host whose clock is behind is never taken for the older one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from training.tracking.delivery import is_away
from training.tracking.store import search_named

if TYPE_CHECKING:
    from mlflow import MlflowClient

_STAMP = "%Y%m%dT%H%M%S.%f"


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)


def start_after(client: MlflowClient, name: str) -> int:
    """A time to begin a run at: now, but after all runs of its name."""
    newest = search_named(client, name)
    return now_ms() if newest is None else max(now_ms(), newest.info.start_time + 1)


def stamp_after(client: MlflowClient, run_id: str, folder: str) -> str:
    """The time as a name, after all those by which folders below one are called.

    While MLflow is away it is the time alone.
    """
    now = datetime.now(UTC)
    try:
        for path in _folders_below(client, run_id, folder):
            with suppress(ValueError):
                there = datetime.strptime(path.rpartition("/")[2], _STAMP).replace(tzinfo=UTC)
                now = max(now, there + timedelta(microseconds=1))
    except Exception as error:
        if not is_away(error):
            raise
    return now.strftime(_STAMP)


def _folders_below(client: MlflowClient, run_id: str, path: str) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, path):
        if entry.is_dir:
            yield entry.path
            yield from _folders_below(client, run_id, entry.path)
