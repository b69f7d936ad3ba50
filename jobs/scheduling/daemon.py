"""The daemon: waits for the next slot, runs it, and never two at once.

It keeps nothing itself: which slots are finished is in MLflow. So it may be killed at any time, and
a second daemon of the same schedule runs no slot twice.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from jobs.scheduling.clock import Clock, Missed, name_of

_log = logging.getLogger(__name__)

# A clock may be set, a laptop sleep: so long is slept at most.
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
        clock: when.
        missed: see `Clock.due`.
        finished: the newest slot that was finished, by whomever; None where there is none.
        run: a slot by its name; whether it was finished. One that fails is tried again when this
            process, or the next, starts anew, or as the schedule's next slot.
        now: the time.
        sleep: for some seconds.
        on_wait: told the next slot.
    """
    began = now()
    tried: set[str] = set()
    while True:
        after = finished() or began
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
        while (left := (upcoming - now()).total_seconds()) > 0:
            sleep(min(left, _NAP_S))
