"""A training as a person sees it: a progress bar, and a line an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs import console

if TYPE_CHECKING:
    from training.reports import (
        EpochReport,
        FellBack,
        NotKept,
        Report,
        SkippedStep,
        Warned,
        WorkerHung,
    )
    from training.tracking.run import RunRef
    from training.transfer import Transfer


class Watch:
    """Shows what a training reports.

    Attributes:
        run: that was begun; None before.
    """

    def __init__(self, bar: console.Bar) -> None:
        self._bar = bar
        self.run: RunRef | None = None

    def on_start(self, run: RunRef) -> None:
        """Say which run it is."""
        self.run = run
        console.ERRORS.print(f"run {run.name} ({run.run_id})", markup=False)

    def on_transfer(self, found: Transfer) -> None:
        """Say what it begins with."""
        for line in found.describe():
            console.ERRORS.print(line, markup=False, soft_wrap=True)

    def on_report(self, report: Report) -> None:
        """Move the bar, or say what an epoch brought."""
        from training.reports import EpochReport, StepReport

        if isinstance(report, StepReport):
            note = f"{report.nats_per_token:.3f} nats, {report.tokens_per_s:.0f} tokens/s"
            self._bar.update(report.done, 1.0, f"epoch {report.epoch}, {note}")
        elif isinstance(report, EpochReport):
            console.ERRORS.print(_told(report), markup=False, soft_wrap=True)
        else:
            console.warn(_warning(report))


@contextmanager
def watching() -> Iterator[Watch]:
    """Show a training for the length of a block."""
    with console.bar("training", counts=False) as bar:
        yield Watch(bar)


def _told(report: EpochReport) -> str:
    scores = [
        f"{name.removeprefix('val/')} {value:.4g}"
        for name, value in report.figures.items()
        if name.startswith("val/")
    ]
    learned = report.figures.get("train/nats_per_token")
    told = "no step" if learned is None else f"{learned:.3f} nats a token"
    return (
        f"epoch {report.epoch}: {told} in training; validation: "
        f"{', '.join(scores)}{' (best so far)' if report.is_best else ''}"
    )


def _warning(report: FellBack | SkippedStep | NotKept | WorkerHung | Warned) -> str:
    from training.reports import FellBack, NotKept, SkippedStep, Warned

    if isinstance(report, Warned):
        return report.text
    if isinstance(report, FellBack):
        return f"{'; '.join(report.damages)}; going on from {report.used}"
    if isinstance(report, SkippedStep):
        return f"step {report.step}: its loss or gradient is not finite; skipped"
    if isinstance(report, NotKept):
        return f"step {report.step}: no checkpoint: {report.reason}; going on, make room"
    return (
        f"worker {report.rank} made no progress in step {report.step} for {report.seconds:.0f} s "
        "(training.step_timeout_s); going on from the last checkpoint"
    )
