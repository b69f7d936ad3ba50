"""How long a call goes on making again what it loses: as long as anything gets done."""

from __future__ import annotations

import time
from collections.abc import Callable

# What a long call on machines that are taken away loses is no measure of it; what it loses without
# finishing anything in between is.
_MAX_LOSSES = 10
_STALLED_S = 120.0
# So many pieces of work in a row that were given up.
_MAX_GIVEN_UP = 3


class Budget:
    """Losses since something was last finished.

    Args:
        seconds: that an item may take: in twice that something should have been finished.
        clock: in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stalled_s = max(_STALLED_S, 2 * seconds)
        self._clock = clock
        self._began = clock()
        self._losses = self._given_up = 0
        self._worked = False

    def finished(self) -> None:
        """Note that something was finished: what was lost before is forgiven."""
        self._began = self._clock()
        self._losses = self._given_up = 0
        self._worked = True

    def lost(self) -> bool:
        """Note a loss; whether the work is to be tried again."""
        self._losses += 1
        if self._losses <= _MAX_LOSSES or self._clock() - self._began < self._stalled_s:
            return True
        self._began = self._clock()
        self._losses = 0
        self._given_up += 1
        return False

    @property
    def may_give_up(self) -> bool:
        """Whether a piece of work may be given up and the others tried: if they ever worked."""
        return self._worked and self._given_up < _MAX_GIVEN_UP

    @property
    def stalled_s(self) -> float:
        """After how many seconds without anything finished work is given up."""
        return self._stalled_s
