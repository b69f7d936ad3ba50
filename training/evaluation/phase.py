"""Phases of long work, for callbacks that show what a program does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of the work begins, or makes progress.

    Attributes:
        title: what is being done, such as "generating predictions".
        fraction: completed fraction, 0..1; None when the phase begins, or if it is not known.
    """

    title: str
    fraction: float | None = None


OnPhase = Callable[[Phase], None]


def no_report(phase: Phase) -> None:
    """Ignore a phase."""


def as_progress(title: str, on_phase: OnPhase) -> Callable[[int, int], None]:
    """Return a callback for counts, done and total, that reports them as a phase."""

    def report(done: int, total: int) -> None:
        on_phase(Phase(title, done / max(1, total)))

    return report
