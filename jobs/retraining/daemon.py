"""Daemon that waits for each slot of a schedule and runs it, one at a time.

The daemon has no state of its own: MLflow records which slots are finished. So it may be killed at
any time, and a second daemon of the same schedule does not repeat a finished slot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from intertitle.jobs.retraining.cron import Clock, Missed, name_of

_log = logging.getLogger(__name__)

# Maximum time between two readings of the clock, because it may be set or the machine may sleep.
_NAP_S = 30.0


def serve(
    clock: Clock,
    missed: Missed,
    *,
    finished: Callable[[], datetime | None],
    run: Callable[[str], bool],
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
    on_wait: Callable[[datetime], None] = lambda _: None,
) -> None:
    """Run the slots of a schedule until the process is stopped.

    Args:
        clock: times of the slots.
        missed: treatment of missed slots, as in `Clock.due`.
        finished: function that returns the latest slot that any process finished, or None.
        run: function that runs a slot by its name and returns whether it finished. A slot that
            fails is not tried again by this process; a later process may try it, or the next slot
            takes its place.
        now: function that returns the current time.
        sleep: function that waits for a number of seconds.
        on_wait: callback with the time of the next slot, before waiting for it.
    """
    start = now()
    tried: set[str] = set()
    while True:
        after = finished() or start
        slots = clock.due(after, now(), missed)
        ready = [name for name in map(name_of, slots) if name not in tried]
        for name in ready:
            tried.add(name)
            if not run(name):
                _log.warning("slot %s was not finished", name)
        if ready:
            continue
        upcoming = clock.next(now())
        on_wait(upcoming)
        while (remaining := (upcoming - now()).total_seconds()) > 0:
            sleep(min(remaining, _NAP_S))
