"""Waits of a command about which it says nothing."""

from __future__ import annotations

import io
import re
import time
from itertools import pairwise

# Time in seconds after which a wait has to be named.
LIMIT_S = 2.0
# Lines that name what goes on until the next one.
_NAMING = re.compile(r".* \.\.\.|.+: (\d+/\d+|\d+ %)( .*)?")


class Output(io.StringIO):
    """Output of a command, with the time of each write.

    Args:
        is_terminal: whether it stands for a terminal, where something moves while a command works;
            in a log, lines name what goes on.
    """

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self._writes = [(time.monotonic(), "start")]

    def isatty(self) -> bool:
        return self._is_terminal

    def write(self, text: str) -> int:
        if self._is_terminal or text.strip():
            self._writes.append((time.monotonic(), text.strip()))
        return super().write(text)

    def unnamed_waits(self) -> list[str]:
        """Waits from the start until now that are longer than the limit."""
        return [
            f"{end - start:.1f} s after {text[-80:]!r}"
            for (start, text), (end, _) in pairwise([*self._writes, (time.monotonic(), "end")])
            if end - start > LIMIT_S and (self._is_terminal or not _NAMING.search(text))
        ]
