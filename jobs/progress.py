"""Progress of imports, feature computation and training: bars, lines, and what was rejected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from upath import UPath

from intertitle.jobs import console
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.storage.paths import AnyPath

if TYPE_CHECKING:
    from intertitle.pipeline.corpus import Corpus
    from intertitle.pipeline.feature_store.snapshot import ItemRecord
    from intertitle.pipeline.importers.report import ImportReport
    from intertitle.pipeline.precompute.options import PrecomputeOptions, PrecomputeReport
    from intertitle.training.evaluation.phase import Phase
    from intertitle.training.inference.warm_start import Transfer
    from intertitle.training.tracking.store.client import RunRef
    from intertitle.training.trainer.events import (
        CheckpointFallback,
        EpochReport,
        NotKept,
        Report,
        SkippedStep,
        Warned,
        WorkerHung,
    )

# Exit code if more items are in quarantine than were allowed.
EXIT_TOO_MANY_FAILED = 3
# Number of quarantined items that are printed.
_SHOWN = 20


class TrainingProgress:
    """Show the reports of a training.

    Attributes:
        run: run of the training; None before it starts.
    """

    def __init__(self, bar: console.Bar) -> None:
        self._bar = bar
        self._has_steps = False
        self.run: RunRef | None = None

    def on_start(self, run: RunRef) -> None:
        """Print the name and the id of the run."""
        self.run = run
        console.note(f"run {run.name} ({run.run_id})")

    def on_transfer(self, transfer: Transfer) -> None:
        """Print which weights the model is initialized with."""
        for line in transfer.describe():
            console.note(line)

    def on_report(self, report: Report) -> None:
        """Update the bar, or print the results of an epoch or a warning."""
        from intertitle.training.evaluation.phase import Phase
        from intertitle.training.trainer.events import EpochReport, StepReport

        if isinstance(report, Phase):
            self._has_steps = False
            show_phase(self._bar, report)
        elif isinstance(report, StepReport):
            if not self._has_steps:
                self._has_steps = True
                self._bar.phase("training")
            note = f"{report.nats_per_token:.3f} nats, {report.tokens_per_s:.0f} tokens/s"
            self._bar.update(report.fraction_done, 1.0, f"epoch {report.epoch}, {note}")
        elif isinstance(report, EpochReport):
            console.note(_describe(report))
        else:
            console.warn(_warning(report))


def show_phase(bar: console.Bar, phase: Phase) -> None:
    """Show a phase of long work in a bar whose progress is a fraction of 1."""
    if phase.fraction is None:
        bar.phase(phase.title)
    else:
        bar.update(phase.fraction, 1.0)


@contextmanager
def training_progress() -> Iterator[TrainingProgress]:
    """Show the progress of a training while a block runs."""
    with console.bar("training", counts=False) as bar:
        yield TrainingProgress(bar)


def _describe(report: EpochReport) -> str:
    scores = [
        f"{name.removeprefix('val/')} {console.score(value)}"
        for name, value in report.figures.items()
        if name.startswith("val/")
    ]
    search = f" ({report.search})" if report.search else ""
    nats = report.figures.get("train/nats_per_token")
    loss = "no step" if nats is None else f"{nats:.3f} nats a token"
    return (
        f"epoch {report.epoch}: {loss} in training; validation{search}: "
        f"{', '.join(scores)}{' (best so far)' if report.is_best else ''}"
    )


def _warning(report: CheckpointFallback | SkippedStep | NotKept | WorkerHung | Warned) -> str:
    from intertitle.training.trainer.events import CheckpointFallback, NotKept, SkippedStep, Warned

    if isinstance(report, Warned):
        return report.text
    if isinstance(report, CheckpointFallback):
        return f"{'; '.join(report.damages)}; going on from {report.used}"
    if isinstance(report, SkippedStep):
        return f"step {report.step}: its loss or gradient is not finite; skipped"
    if isinstance(report, NotKept):
        return f"step {report.step}: no checkpoint: {report.reason}; going on, make room"
    return (
        f"worker {report.rank} made no progress in step {report.step} for {report.seconds:.0f} s "
        "(training.step_timeout_s); going on from the last checkpoint"
    )


def show_quarantined(records: Sequence[ItemRecord], store: UPath) -> None:
    """Print the first quarantined items, and how all are listed."""
    for record in records[:_SHOWN]:
        console.echo(f"quarantined {one_line(record.key)}: {record.error}: {record.message}")
    if len(records) > _SHOWN:
        console.echo(
            f"quarantined: {len(records) - _SHOWN} more; `intertitle inspect {store} --quarantine` "
            "shows all"
        )


def run_precompute(corpus: Corpus, store: UPath, options: PrecomputeOptions) -> PrecomputeReport:
    """Compute features with a progress bar; needs a running Ray."""
    from intertitle.pipeline.precompute.options import PrecomputeProgress
    from intertitle.pipeline.precompute.run import precompute

    with console.bar("features", unit="items") as bar:

        def show(progress: PrecomputeProgress) -> None:
            failed = f"{progress.failed} failed" if progress.failed else ""
            bar.update(progress.done, progress.total, failed)

        return precompute(corpus, store, options, show)


def run_import(format: str, source: list[UPath], out: AnyPath, **options: Any) -> ImportReport:
    """Import a dataset, and show that it takes a while; with a bar if it reports progress.

    Args:
        format: name of the format.
        source: files or folders of the dataset.
        out: folder or URL of the corpus.
        options: further arguments of `import_dataset`.
    """
    from intertitle.pipeline.importers.dispatch import import_dataset, load_importer

    label = load_importer(format).progress
    if label is None:
        with console.step(f"importing {format}"):
            return import_dataset(format, source, out, **options)
    with console.bar(label, unit="items") as bar:
        return import_dataset(format, source, out, on_progress=bar.update, **options)
