"""One call, from the plan to the snapshot."""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import ray
from upath import UPath

from pipeline.backbone import BackboneSpec, backbone_spec, precision
from pipeline.corpus import Corpus
from pipeline.errors import JobError, UserError
from pipeline.fingerprint import make_fingerprint
from pipeline.location import AnyPath, location
from pipeline.lock import only_writer
from pipeline.plan import (
    Plan,
    ShardPlan,
    accept,
    accepted_before,
    forget_pending,
    has_pending,
    make_plan,
    merge,
    present_shards,
    record_of,
)
from pipeline.precompute.flow import Flow
from pipeline.precompute.nodes import Nodes
from pipeline.precompute.options import PrecomputeOptions, PrecomputeReport, Progress
from pipeline.precompute.workers import Workers, num_gpus
from pipeline.snapshot import (
    Snapshot,
    current_snapshot,
    forget_stopped,
    publish,
    table_of,
    write_stopped,
)
from pipeline.versions import differences, made_by
from pipeline.work import INTERNAL, DecodedItem, Rejection

log = logging.getLogger(__name__)

# Fewer say nothing of a corpus.
_ENOUGH_ITEMS = 200
_OUT_OF_ORDER = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def precompute(
    corpus: Corpus,
    store: AnyPath,
    options: PrecomputeOptions,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> PrecomputeReport:
    """Make the features of every item of a corpus that the store has not, and publish a snapshot.

    Needs a running Ray (`ray.init`). Items that can't be decoded end in the snapshot's quarantine;
    they are tried again when their file changes, or when the options say so.

    Raises:
        UserError: the store holds features of another make or is being written to, more workers
            than GPUs are wanted, nodes have other versions than this process, or the files of most
            stored items are missing.
        JobError: a worker failed for good, the disk is full, an object store refuses the
            credentials, or too many items failed; what was accepted is kept for the next call.
    """
    folder = location(store)
    # A mistake ends here, before there is a folder.
    spec = backbone_spec(options.backbone, options.features)
    try:
        with only_writer(folder) as check_held:
            return _Call(corpus, folder, options, spec, on_progress, check_held).run()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, JobError):
            raise cause from error
        line = str(error).strip().splitlines()[-1]
        raise JobError(f"precompute failed: {type(error).__name__}: {line}") from error
    except OSError as error:
        if error.errno in _OUT_OF_ORDER:
            raise JobError(f"{folder}: {error.strerror or error}; nothing is published") from error
        raise


class _Call:
    """The state of one call: what is planned, what is made, how many are done."""

    def __init__(
        self,
        corpus: Corpus,
        store: UPath,
        options: PrecomputeOptions,
        spec: BackboneSpec,
        on_progress: Callable[[Progress], None],
        check_held: Callable[[], None],
    ) -> None:
        self._corpus, self._store, self._options = corpus, store, options
        self._on_progress, self._check_held = on_progress, check_held
        self._spec, self._precision = spec, precision(spec, gpu=num_gpus() > 0)
        self._fingerprint = make_fingerprint(
            self._spec, options.sampling, options.format, self._precision
        )
        self._before = current_snapshot(store)
        if self._before is not None and self._before.fingerprint != self._fingerprint:
            raise UserError(
                f"{store}: holds features of another make: "
                f"{'; '.join(self._before.fingerprint.differences(self._fingerprint))}; "
                "choose another --out"
            )
        self._total = self._done = self._failed = 0
        # Of those tried by this call: how many, how many met an error that nobody foresaw, and by
        # key those that failed.
        self._tried = self._tried_internal = 0
        self._tried_failed: dict[str, DecodedItem] = {}

    def run(self) -> PrecomputeReport:
        plan = make_plan(
            self._corpus,
            self._store,
            self._before,
            self._fingerprint,
            self._options.shard_items,
            self._options.limits,
            self._options.retry_failed,
        )
        self._total = len(plan.items)
        self._count(len(plan.kept), plan.kept["shard"].null_count)
        accepted = self._made(plan)
        snapshot = merge(plan, self._before, [(shard.rows, made) for shard, made in accepted])
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
            skipped=len(plan.kept),
            missing_files=counts["file_missing"],
        )

    def _made(self, plan: Plan) -> list[tuple[ShardPlan, Snapshot]]:
        """Every planned shard: accepted by an earlier call, or made now."""
        made: list[tuple[ShardPlan, Snapshot]] = []
        missing = plan.shards()
        if has_pending(self._store):
            missing = self._without_accepted(plan, made)
        if sum(len(shard.rows) for shard, _ in made) == len(plan.todo_rows):
            return made
        self._store.fs.makedirs((self._store / "shards").path, exist_ok=True)
        self._warn_of_other_versions()
        nodes = Nodes()
        with Workers(self._spec, self._precision, self._options.workers, nodes) as workers:
            nodes.check()
            flow = Flow(workers, nodes, self._store, self._spec, self._options, self._count_new)
            for shard, decoded, attempt in flow.run(missing):
                try:
                    taken = accept(shard, self._store, self._fingerprint, decoded, attempt)
                except FileNotFoundError as error:
                    raise JobError(
                        f"{self._store}: {attempt.name} was written by a worker, but is not to be "
                        "seen here; a store has to be where every node sees it"
                    ) from error
                made.append((shard, taken))
        return made

    def _without_accepted(
        self, plan: Plan, made: list[tuple[ShardPlan, Snapshot]]
    ) -> Iterator[ShardPlan]:
        """Take in what an earlier call accepted; the shards that are left."""
        missing: list[ShardPlan] = []
        present = present_shards(self._store)
        for shard in plan.shards():
            earlier = accepted_before(shard, self._store, present, plan.retry_failed)
            if earlier is None:
                missing.append(shard)
            else:
                made.append((shard, earlier))
                self._count(len(earlier), earlier.counts()["quarantined"])
        return iter(missing)

    def _count(self, done: int, failed: int) -> None:
        self._done += done
        self._failed += failed
        self._on_progress(Progress(self._done, self._total, self._failed))

    def _warn_of_other_versions(self) -> None:
        made_with = self._before.versions[-1:] if self._before else ()
        for found in made_with:
            if other := differences(made_by(), found):
                log.warning(
                    "%s: the features there were made with %s as here; they stay, and those that "
                    "are new may differ in their last digits",
                    self._store,
                    ", ".join(other),
                )

    def _count_new(self, items: Sequence[DecodedItem], made: bool) -> None:
        """Count items that were tried now, or back; a call that mostly fails is ended."""
        failed = {item.source.item.key: item for item in items if item.rejection}
        sign = 1 if made else -1
        self._count(sign * len(items), sign * len(failed))
        self._tried += sign * len(items)
        self._tried_internal += sign * sum(map(_is_internal, failed.values()))
        if not made:
            for key in failed:
                del self._tried_failed[key]
            return
        self._tried_failed |= failed
        options = self._options
        if self._tried_internal > options.stop_internal:
            self._stop(
                f"{self._tried_internal} of the first {self._tried} items met an error that nobody "
                f"foresaw, a defect of the program; allowed: {options.stop_internal}",
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
        """End the call for its failures, and leave them where a person can look at them.

        Args:
            why: one line.
            failed: of these the commonest is named.
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
    """The class of a failure; of one that nobody foresaw, the class of the error too."""
    if rejection.error != INTERNAL or not rejection.traceback:
        return rejection.error
    return f"{INTERNAL}: {rejection.traceback.strip().splitlines()[-1].partition(':')[0]}"


def _is_internal(item: DecodedItem) -> bool:
    return item.rejection is not None and item.rejection.error == INTERNAL
