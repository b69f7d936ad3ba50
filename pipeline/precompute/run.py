"""The function `precompute`: one call from the plan to the published snapshot."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import ray
from upath import UPath

from intertitle.pipeline.backbones import BackboneSpec, backbone_spec, precision
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.pipeline.feature_store.snapshot import (
    Snapshot,
    current_snapshot,
    forget_stopped,
    publish,
    table_of,
    write_stopped,
)
from intertitle.pipeline.precompute.acceptance import (
    accept,
    accepted_before,
    forget_pending,
    has_pending,
    merge,
)
from intertitle.pipeline.precompute.item_records import record_of
from intertitle.pipeline.precompute.options import (
    PrecomputeOptions,
    PrecomputeProgress,
    PrecomputeReport,
)
from intertitle.pipeline.precompute.plan import Plan, ShardPlan, make_plan, present_shards
from intertitle.pipeline.precompute.scheduling.actors import BackbonePool, num_gpus
from intertitle.pipeline.precompute.scheduling.losses import last_line
from intertitle.pipeline.precompute.scheduling.nodes import Nodes
from intertitle.pipeline.precompute.scheduling.scheduler import Scheduler
from intertitle.pipeline.precompute.versions import differences, made_by
from intertitle.pipeline.precompute.work import INTERNAL, DecodedItem, Rejection
from intertitle.pipeline.storage.faults import is_outage
from intertitle.pipeline.storage.lock import single_writer_lock
from intertitle.pipeline.storage.paths import AnyPath, as_path

log = logging.getLogger(__name__)

# Minimum number of items before the share of failures ends a call.
_ENOUGH_ITEMS = 200


def precompute(
    corpus: Corpus,
    store: AnyPath,
    options: PrecomputeOptions,
    on_progress: Callable[[PrecomputeProgress], None] = lambda _: None,
) -> PrecomputeReport:
    """Compute the features that a store lacks for the items of a corpus, and publish a snapshot.

    Ray must be running (`ray.init`). Items that cannot be decoded are listed in the snapshot's
    quarantine; they are tried again when their file changes or when `options.retry_failed` is set.

    Args:
        corpus: corpus whose items should have features.
        store: path or URL of the feature store.
        options: options of the call.
        on_progress: callback for progress events.

    Returns:
        The id of the snapshot, and counts of the items.

    Raises:
        UserError: the store holds features with another fingerprint or is being written to, more
            workers than GPUs are requested, nodes have other versions than this process, or the
            files of most stored items are missing.
        JobError: a worker failed permanently, the disk is full, an object store refuses the
            credentials, or too many items failed; accepted shards are kept for the next call.
    """
    folder = as_path(store)
    # Invalid options raise here, before the store's folder is created.
    spec = backbone_spec(options.backbone, options.features)
    try:
        with single_writer_lock(folder) as check_held:
            return _PrecomputeRun(corpus, folder, options, spec, on_progress, check_held).run()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, JobError):
            raise cause from error
        raise JobError(f"precompute failed: {last_line(error)}") from error
    except OSError as error:
        if is_outage(error):
            raise JobError(f"{folder}: {error.strerror or error}; nothing is published") from error
        raise


class _PrecomputeRun:
    """The state of one call: its options, the last snapshot and the counts of items."""

    def __init__(
        self,
        corpus: Corpus,
        store: UPath,
        options: PrecomputeOptions,
        spec: BackboneSpec,
        on_progress: Callable[[PrecomputeProgress], None],
        check_held: Callable[[], None],
    ) -> None:
        sampling = replace(options.sampling, window=spec.window)
        options = replace(options, sampling=sampling)
        self._corpus, self._store, self._options = corpus, store, options
        self._on_progress, self._check_held = on_progress, check_held
        self._spec, self._precision = spec, precision(spec, gpu=num_gpus() > 0)
        self._fingerprint = make_fingerprint(self._spec, sampling, options.format, self._precision)
        self._before = current_snapshot(store)
        if self._before is not None and self._before.fingerprint != self._fingerprint:
            raise UserError(
                f"{store}: holds features of another make: "
                f"{'; '.join(self._before.fingerprint.differences(self._fingerprint))}; "
                "choose another --out"
            )
        self._total = self._done = self._failed = 0
        # Items that this call tried: their number, the number of unexpected errors, and the failed
        # items by key.
        self._tried = self._tried_internal = 0
        self._tried_failed: dict[str, DecodedItem] = {}

    def run(self) -> PrecomputeReport:
        """Plan the work, compute the missing shards and publish the snapshot."""
        plan = make_plan(
            self._corpus,
            self._store,
            self._before,
            self._fingerprint,
            self._options.shard_items,
            self._options.limits,
            self._options.retry_failed,
        )
        self._total = plan.num_items
        self._count(len(plan.valid_records), plan.valid_records["shard"].null_count)
        accepted = self._made(plan)
        snapshot = merge(
            plan, self._before, [(shard.rows, shard_snapshot) for shard, shard_snapshot in accepted]
        )
        if snapshot == self._before:
            name = snapshot.id()
        else:
            name = publish(self._store, snapshot, self._check_held)
        forget_pending(self._store, [shard.address for shard, _ in accepted])
        forget_stopped(self._store)
        counts = snapshot.counts()
        return PrecomputeReport(
            snapshot=name,
            stored=counts["stored"],
            degraded=counts["degraded"],
            quarantined=tuple(snapshot.quarantined()),
            skipped=len(plan.valid_records),
            missing_files=counts["file_missing"],
        )

    def _made(self, plan: Plan) -> list[tuple[ShardPlan, Snapshot]]:
        """Return every planned shard, accepted by an earlier call or computed now."""
        results: list[tuple[ShardPlan, Snapshot]] = []
        missing = plan.shards()
        if has_pending(self._store):
            missing = self._without_accepted(plan, results)
        if sum(len(shard.rows) for shard, _ in results) == len(plan.todo_rows):
            return results
        self._store.fs.makedirs((self._store / "shards").path, exist_ok=True)
        self._warn_of_other_versions()
        nodes = Nodes()
        with BackbonePool(self._spec, self._precision, self._options.workers, nodes) as workers:
            nodes.check()
            scheduler = Scheduler(
                workers, nodes, self._store, self._spec, self._options, self._count_new
            )
            for shard, decoded, attempt in scheduler.run(missing):
                try:
                    shard_snapshot = accept(shard, self._store, self._fingerprint, decoded, attempt)
                except FileNotFoundError as error:
                    raise JobError(
                        f"{self._store}: {attempt.name} was written by a worker, but is not to be "
                        "seen here; a store has to be where every node sees it"
                    ) from error
                results.append((shard, shard_snapshot))
        return results

    def _without_accepted(
        self, plan: Plan, accepted: list[tuple[ShardPlan, Snapshot]]
    ) -> Iterator[ShardPlan]:
        """Add the shards that an earlier call accepted to `accepted`; return the remaining ones."""
        missing: list[ShardPlan] = []
        present = present_shards(self._store)
        for shard in plan.shards():
            earlier = accepted_before(shard, self._store, present, self._options.retry_failed)
            if earlier is None:
                missing.append(shard)
            else:
                accepted.append((shard, earlier))
                self._count(len(earlier), earlier.counts()["quarantined"])
        return iter(missing)

    def _count(self, done: int, failed: int) -> None:
        self._done += done
        self._failed += failed
        self._on_progress(PrecomputeProgress(self._done, self._total, self._failed))

    def _warn_of_other_versions(self) -> None:
        made_with = self._before.versions[-1:] if self._before else ()
        for last_versions in made_with:
            if changes := differences(made_by(), last_versions):
                log.warning(
                    "%s: the features there were made with %s as here; they stay, and those that "
                    "are new may differ in their last digits",
                    self._store,
                    ", ".join(changes),
                )

    def _count_new(self, items: Sequence[DecodedItem], added: bool) -> None:
        """Count items that this call tried, and end the call if too many failed.

        Args:
            items: items that were tried.
            added: True to count the items, False to subtract them because their features were lost.
        """
        failed = {item.source.item.key: item for item in items if item.rejection}
        sign = 1 if added else -1
        self._count(sign * len(items), sign * len(failed))
        self._tried += sign * len(items)
        self._tried_internal += sign * sum(map(_is_internal, failed.values()))
        if not added:
            for key in failed:
                del self._tried_failed[key]
            return
        self._tried_failed |= failed
        options = self._options
        if self._tried_internal > options.stop_internal:
            self._stop(
                f"{self._tried_internal} of the first {self._tried} items met an unexpected error, "
                f"a defect of the program; allowed: {options.stop_internal}",
                [item for item in self._tried_failed.values() if _is_internal(item)],
            )
        if (
            self._tried >= _ENOUGH_ITEMS
            and len(self._tried_failed) > options.stop_failed * self._tried
        ):
            self._stop(
                f"{len(self._tried_failed)} of the first {self._tried} items failed, allowed: a "
                f"share of {options.stop_failed:g}",
                list(self._tried_failed.values()),
            )

    def _stop(self, why: str, failed: Sequence[DecodedItem]) -> None:
        """End the call because of failed items, and write their records for inspection.

        Args:
            why: reason in one line.
            failed: failed items; the error message names their most common failure.
        """
        records = table_of(record_of(item) for item in self._tried_failed.values())
        write_stopped(self._store, Snapshot(self._fingerprint, {}, records, (made_by(),)))
        rejections = [item.rejection for item in failed if item.rejection]
        ((kind, number),) = Counter(map(_kind, rejections)).most_common(1)
        example = next(rejection for rejection in rejections if _kind(rejection) == kind)
        raise JobError(
            f"{self._corpus.path}: {why}; nothing is published. The commonest is {kind} ({number} "
            f"items), as {example.message}; `intertitle inspect {self._store} --stopped` lists them"
        )


def _kind(rejection: Rejection) -> str:
    """Return the class of a failure, and for an unexpected error the exception's class too."""
    if rejection.error != INTERNAL or not rejection.traceback:
        return rejection.error
    return f"{INTERNAL}: {rejection.traceback.strip().splitlines()[-1].partition(':')[0]}"


def _is_internal(item: DecodedItem) -> bool:
    return item.rejection is not None and item.rejection.error == INTERNAL
