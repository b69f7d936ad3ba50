"""Waits of a command about which it says nothing."""

from __future__ import annotations

import io
import re
import threading
from itertools import pairwise

# Time in seconds after which a wait has to be named.
LIMIT_S = 2.0
_BEAT_S = 0.05
# Lines that name what goes on until the next one.
_NAMING = re.compile(r".* \.\.\.|.+: (\d+/\d+|\d+ %)( .*)?")


class Output(io.StringIO):
    """Output of a command, with the time of each write.

    The clock is a thread of this process: it stands still while other programs have the cores.

    Args:
        is_terminal: whether it stands for a terminal, where something moves while a command works;
            in a log, lines name what goes on.
    """

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self._now, self._ended = 0.0, threading.Event()
        self._writes = [(self._now, "start")]
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self) -> None:
        while not self._ended.wait(_BEAT_S):
            self._now += _BEAT_S

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        if self._is_terminal or text.strip():
            self._writes.append((self._now, text.strip()))
        return super().write(text)

    def unnamed_waits(self) -> list[str]:
        """End the clock; waits from the start until now that are longer than the limit."""
        self._ended.set()
        return [
            f"{end - start:.1f} s after {text[-80:]!r}"
            for (start, text), (end, _) in pairwise([*self._writes, (self._now, "end")])
            if end - start > LIMIT_S and (self._is_terminal or not _NAMING.search(text))
        ]
