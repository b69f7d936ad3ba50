"""A training as a person sees it: a progress bar, and a line an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from jobs import console

if TYPE_CHECKING:
    from training.reports import EpochReport, Report
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
        from training.reports import FellBack, StepReport, Warned

        if isinstance(report, StepReport):
            note = f"{report.nats_per_token:.3f} nats, {report.tokens_per_s:.0f} tokens/s"
            self._bar.update(report.done, 1.0, f"epoch {report.epoch}, {note}")
        elif isinstance(report, FellBack):
            console.warn(f"{'; '.join(report.damages)}; going on from {report.used}")
        elif isinstance(report, Warned):
            console.warn(report.text)
        else:
            console.ERRORS.print(_told(report), markup=False, soft_wrap=True)


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
    return (
        f"epoch {report.epoch}: {report.figures['train/nats_per_token']:.3f} nats a token in "
        f"training; validation: {', '.join(scores)}{' (best so far)' if report.is_best else ''}"
    )
