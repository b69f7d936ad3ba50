"""What a slot learns from: imported, pinned, and made into features."""

from __future__ import annotations

from contextlib import suppress

from upath import UPath

from jobs.importing import run_import
from jobs.precompute import run_precompute
from jobs.retraining.config import RetrainConfig, place
from pipeline.corpus import PINS, TABLES, Corpus
from pipeline.errors import JobError
from pipeline.limits import Limits
from pipeline.location import location
from pipeline.pins import pin_corpus, pin_name, pin_snapshot, pinned_snapshot, unpin
from pipeline.plan import make_plan
from pipeline.precompute import PrecomputeOptions, PrecomputeReport
from pipeline.sampling import Uniform
from pipeline.snapshot import current_snapshot


def pin_new(config: RetrainConfig, slot: str) -> str:
    """Import what there is now and pin it; the name of the pin."""
    data = config.data
    if data.format is not None:
        run_import(data.format, [location(one) for one in data.source], location(data.corpus))
    name = pin_name(f"retrain-{config.model}-{slot}")
    pin_corpus(Corpus(data.corpus).path, name)
    return name


class SlotData:
    """The data of a slot, as it was when the slot began.

    Args:
        config: of the retraining.
        pin: the name of what is pinned.
    """

    def __init__(self, config: RetrainConfig, pin: str) -> None:
        self._config, self.pin = config, pin

    @property
    def corpus(self) -> Corpus:
        return Corpus(location(self._config.data.corpus), self.pin)

    def is_there(self) -> bool:
        """Whether the corpus is still pinned."""
        folder = location(self._config.data.corpus) / PINS / self.pin
        return bool(self.pin) and all((folder / table).is_file() for table in TABLES)

    def has_features(self) -> bool:
        """Whether no item's file is new or changed since its features were made."""
        store = place(self._config.data.features)
        if store is None:
            return True
        last = current_snapshot(store)
        if last is None:
            return False
        plan = make_plan(self.corpus, store, last, last.fingerprint, 1, Limits())
        return not len(plan.todo_rows)

    def make_features(self) -> None:
        """Make what features the store lacks, and pin the snapshot; once a slot.

        Raises:
            JobError: too many items are in quarantine, or another process changed the store.
        """
        store = place(self._config.data.features)
        if store is None or pinned_snapshot(store, self.pin) is not None:
            return
        report = self._precompute(self.corpus, store)
        if pin_snapshot(store, self.pin) != report.snapshot:
            unpin(store, self.pin)
            raise JobError(f"{store}: another process published a snapshot meanwhile; call again")

    def make_frozen_features(self) -> None:
        """Make what features of the frozen examples are lacking.

        Raises:
            JobError: too many items are in quarantine.
        """
        frozen = self._config.frozen
        store = place(frozen.features)
        if store is not None:
            self._precompute(Corpus(location(frozen.corpus)), store)

    def let_go(self) -> None:
        """Unpin all of it."""
        for path in (self._config.data.corpus, self._config.data.features):
            if path is not None and self.pin:
                # A pin that stays costs a little room.
                with suppress(OSError):
                    unpin(location(path), self.pin)

    def _precompute(self, corpus: Corpus, store: UPath) -> PrecomputeReport:
        data = self._config.data
        options = PrecomputeOptions(data.backbone, Uniform(data.frames), features=data.kind)
        report = run_precompute(corpus, store, options)
        failed = len(report.quarantined)
        if failed > data.allow_failed * (failed + report.stored):
            raise JobError(
                f"{store}: {failed} of {failed + report.stored} items in quarantine, allowed: a "
                f"share of {data.allow_failed:g} (`intertitle inspect {store} --quarantine`)"
            )
        return report
