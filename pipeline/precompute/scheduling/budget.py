"""Limit on retries of lost work: a call goes on as long as some work still finishes."""

from __future__ import annotations

import time
from collections.abc import Callable

# A long call on machines that may be taken away loses work often, so the total number of losses
# means little. Losses are counted from the last piece of work that finished.
_MAX_LOSSES = 10
_STALLED_S = 120.0
# Maximum number of pieces of work that are given up in a row.
_MAX_GIVEN_UP = 3


class Budget:
    """Counter of the losses since a piece of work last finished.

    Args:
        seconds: time limit of an item, in seconds; work counts as stalled when nothing finishes in
            twice this time.
        clock: function that returns the time in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stalled_s = max(_STALLED_S, 2 * seconds)
        self._clock = clock
        self._began = clock()
        self._losses = self._given_up = 0
        self._worked = False

    def finished(self) -> None:
        """Record that a piece of work finished, and reset the counters."""
        self._began = self._clock()
        self._losses = self._given_up = 0
        self._worked = True

    def lost(self) -> bool:
        """Record a loss, and return whether the work should be retried."""
        self._losses += 1
        if self._losses <= _MAX_LOSSES or self._clock() - self._began < self._stalled_s:
            return True
        self._began = self._clock()
        self._losses = 0
        self._given_up += 1
        return False

    @property
    def may_give_up(self) -> bool:
        """Whether one piece of work may be given up: others finished, and few were given up."""
        return self._worked and self._given_up < _MAX_GIVEN_UP

    @property
    def stalled_s(self) -> float:
        """Time in seconds after which work is given up if nothing finishes."""
        return self._stalled_s
