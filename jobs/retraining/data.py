"""Training data of a slot: import it, pin it, and compute its features."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from upath import UPath

from intertitle.jobs.progress import run_import, run_precompute
from intertitle.jobs.retraining.config import RetrainConfig
from intertitle.pipeline.corpus import PINS, TABLES, Corpus
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import JobError
from intertitle.pipeline.feature_store.pins import (
    pin_corpus,
    pin_name,
    pin_snapshot,
    pinned_snapshot,
    unpin,
)
from intertitle.pipeline.feature_store.snapshot import current_snapshot
from intertitle.pipeline.precompute.options import PrecomputeOptions, PrecomputeReport
from intertitle.pipeline.precompute.plan import make_plan
from intertitle.pipeline.storage.paths import as_path


def pin_new(config: RetrainConfig, slot: str) -> str:
    """Import the current data and pin the corpus; return the name of the pin."""
    data = config.data
    if data.format is not None:
        source = [as_path(item) for item in data.source]
        run_import(data.format, source, as_path(data.corpus), **data.languages)
    name = pin_name(f"retrain-{config.model}-{slot}")
    pin_corpus(Corpus(data.corpus).path, name)
    return name


class SlotData:
    """Data of a slot, as it was when the slot started.

    Args:
        config: configuration of the retraining.
        pin: name of the pin.
    """

    def __init__(self, config: RetrainConfig, pin: str) -> None:
        self._config, self.pin = config, pin

    @property
    def corpus(self) -> Corpus:
        """Pinned corpus."""
        return Corpus(as_path(self._config.data.corpus), self.pin)

    def is_there(self) -> bool:
        """Return whether the corpus is still pinned."""
        folder = as_path(self._config.data.corpus) / PINS / self.pin
        return bool(self.pin) and all((folder / table).is_file() for table in TABLES)

    def has_features(self) -> bool:
        """Return whether every item has up-to-date features, is in quarantine, or needs none.

        An unchanged file that could not be read is no new data, although `make_features` tries to
        read it again.
        """
        return all(map(self._is_complete, self._config.data.features))

    def _is_complete(self, features: str) -> bool:
        store = as_path(features)
        last = current_snapshot(store)
        if last is None:
            return False
        plan = make_plan(
            self.corpus, store, last, last.fingerprint, 1, Limits(), retry_unavailable=False
        )
        return not len(plan.todo_rows)

    def make_features(self) -> None:
        """Compute the features that the stores lack, and pin the snapshots, once per slot.

        Raises:
            JobError: too many items are in quarantine, or another process changed a store.
        """
        for store, backbone in self._stores(self._config.data.features):
            if pinned_snapshot(store, self.pin) is not None:
                continue
            report = self._precompute(self.corpus, store, backbone)
            if pin_snapshot(store, self.pin) != report.snapshot:
                unpin(store, self.pin)
                raise JobError(
                    f"{store}: another process published a snapshot meanwhile; call again"
                )

    def make_frozen_features(self) -> None:
        """Compute the missing features of the frozen examples.

        Raises:
            JobError: too many items are in quarantine.
        """
        frozen = self._config.frozen
        for store, backbone in self._stores(frozen.features):
            self._precompute(Corpus(as_path(frozen.corpus)), store, backbone)

    def let_go(self) -> None:
        """Unpin the corpus and the features."""
        for path in (self._config.data.corpus, *self._config.data.features):
            if self.pin:
                # A pin that cannot be removed only uses some disk space.
                with suppress(OSError):
                    unpin(as_path(path), self.pin)

    def _stores(self, features: Sequence[str]) -> list[tuple[UPath, str]]:
        """Return feature stores, each with its backbone."""
        backbones = self._config.data.backbone
        return [(as_path(path), name) for path, name in zip(features, backbones, strict=False)]

    def _precompute(self, corpus: Corpus, store: UPath, backbone: str) -> PrecomputeReport:
        data = self._config.data
        options = PrecomputeOptions(backbone, Uniform(data.frames), features=data.kind)
        report = run_precompute(corpus, store, options)
        failed = len(report.quarantined)
        if failed > data.allow_failed * (failed + report.stored):
            raise JobError(
                f"{store}: {failed} of {failed + report.stored} items in quarantine, allowed: a "
                f"share of {data.allow_failed:g} (`intertitle inspect {store} --quarantine`)"
            )
        return report
