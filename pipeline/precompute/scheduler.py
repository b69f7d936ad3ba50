"""Scheduler of the decode tasks, backbones and write tasks of one call.

It keeps the workers busy and the number of frames in memory low. A chunk of items is decoded in one
task. If Ray's worker dies, each item of the chunk is decoded in a task of its own. Work that a node
or worker loses is repeated as long as other work finishes; a failed backbone is replaced. Files
that one node cannot read are read on another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import ray
from upath import UPath

from intertitle.pipeline.backbones import BackboneSpec
from intertitle.pipeline.decoding.item_file import ItemFile, is_there
from intertitle.pipeline.errors import JobError, one_line
from intertitle.pipeline.feature_store.shards import ShardFile
from intertitle.pipeline.precompute import tasks
from intertitle.pipeline.precompute.actors import BackbonePool
from intertitle.pipeline.precompute.budget import Budget
from intertitle.pipeline.precompute.chunks import Chunk, Shard, Window
from intertitle.pipeline.precompute.nodes import Nodes, Place, name_of
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.plan import ShardPlan
from intertitle.pipeline.precompute.work import DecodedItem, Rejection, rejected
from intertitle.pipeline.storage.paths import is_local

Made = tuple[ShardPlan, list[DecodedItem], ShardFile]

# Maximum number of nodes on which the files of a chunk are tried.
_MAX_NODES = 3
# Number of errors of the backbone on one chunk, each in a new process, after which the job fails.
_MAX_FAILURES = 3


@dataclass(eq=False)
class _Examination:
    """Items and frames of a chunk whose items are each decoded in a task of their own."""

    chunk: Chunk
    items: dict[int, DecodedItem] = field(default_factory=dict)
    frames: dict[int, Any] = field(default_factory=dict)


class Scheduler:
    """Scheduler of the work of one call.

    Args:
        workers: pool of backbones.
        nodes: nodes of the cluster that may run the work.
        store: folder of the feature store, which receives the shards.
        spec: specification of the backbone.
        options: options of the call.
        count: callback that receives items and True when their features are computed, and False
            when their features were lost.
    """

    def __init__(
        self,
        workers: BackbonePool,
        nodes: Nodes,
        store: UPath,
        spec: BackboneSpec,
        options: PrecomputeOptions,
        count: Callable[[Sequence[DecodedItem], bool], None],
    ) -> None:
        self._workers, self._nodes, self._store, self._spec = workers, nodes, store, spec
        self._options, self._count = options, count
        self._window = Window(
            2 * workers.num_cpus + 2,
            ray.cluster_resources().get("object_store_memory", float("inf")),
            spec.size * spec.size * 3,
            options.sampling,
        )
        self._budget = Budget(options.limits.seconds)
        self._again: deque[Chunk] = deque()
        # Callbacks by the reference that they wait for.
        self._waiting: dict[Any, Callable[[Any], Made | None]] = {}

    def run(self, plans: Iterator[ShardPlan]) -> Iterator[Made]:
        """Compute shards, and yield each when an attempt at it is written.

        Raises:
            OSError: a shard could not be written.
            JobError: no node is left for the work, or no work finishes any more.
            ray.exceptions.RayError: a worker failed permanently.
        """
        todo = self._chunks(plans)
        while True:
            while self._window.has_room() and (chunk := self._next(todo)):
                self._window.begin(chunk)
                self._decode(chunk)
            if not self._waiting:
                return
            (ref,), _ = ray.wait(list(self._waiting), num_returns=1)
            if result := self._waiting.pop(ref)(ref):
                yield result

    def _chunks(self, plans: Iterator[ShardPlan]) -> Iterator[Chunk]:
        for plan in plans:
            yield from self._chunks_of(plan)

    def _chunks_of(self, plan: ShardPlan) -> Iterator[Chunk]:
        parts = self._window.cut(plan.sources)
        shard = Shard(plan, len(parts))
        for index, sources in enumerate(parts):
            yield Chunk(shard, index, sources)

    def _next(self, todo: Iterator[Chunk]) -> Chunk | None:
        return self._again.popleft() if self._again else next(todo, None)

    def _make_again(self, chunk: Chunk) -> None:
        self._window.end(chunk)
        self._again.append(chunk)

    # Decoding

    def _decode(self, chunk: Chunk) -> None:
        items, frames = self._for_files(
            tasks.decode_task,
            chunk.sources,
            self._options.sampling,
            self._spec.size,
            self._options.limits,
            avoid=chunk.avoid,
        )
        self._waiting[items] = partial(self._decoded, chunk, frames)

    def _decoded(self, chunk: Chunk, frames: Any, ref: Any) -> None:
        try:
            decoded: tasks.Decoded = ray.get(ref)
        except ray.exceptions.RayError as error:
            if _is_defect(error):
                raise
            examination = _Examination(chunk)
            for n in range(len(chunk.sources)):
                self._examine(examination, n)
            return
        items = self._settled(chunk, decoded)
        if items is None:
            self._make_again(chunk)
        else:
            self._embed(chunk, items, [frames])

    def _examine(self, examination: _Examination, n: int) -> None:
        """Decode an item in a task of its own, to find out whether it ended the chunk's process."""
        chunk = examination.chunk
        item, examination.frames[n] = self._for_files(
            tasks.examine_task,
            chunk.sources[n],
            self._options.sampling,
            self._spec.size,
            self._options.limits,
            avoid=chunk.avoid,
        )
        self._waiting[item] = partial(self._examined, examination, n)

    def _examined(self, examination: _Examination, n: int, ref: Any) -> None:
        chunk = examination.chunk
        try:
            items = self._settled(chunk, ray.get(ref))
        except ray.exceptions.RayError as error:
            # The item cannot end the task, which only monitors the process that decodes the item:
            # the machine is at fault.
            if _is_defect(error):
                raise
            items = None
            if not self._budget.lost():
                items = self._given_up(chunk.sources[n : n + 1], "decode", error)
                examination.frames[n] = ray.put(self._no_frames())
        if items is None:
            self._examine(examination, n)
            return
        (examination.items[n],) = items
        if len(examination.items) == len(chunk.sources):
            indices = range(len(chunk.sources))
            self._embed(
                chunk,
                [examination.items[n] for n in indices],
                [examination.frames[n] for n in indices],
            )

    def _settled(self, chunk: Chunk, decoded: tasks.Decoded) -> list[DecodedItem] | None:
        """Return the decoded items, or None if they have to be decoded on another node."""
        place, items = decoded.place, decoded.items
        if not self._nodes.takes(place):
            return None
        self._strike_nodes(chunk, decoded)
        unseen = [item for item in items if _is(item, "missing") and is_there(item.source)]
        unread = [item for item in items if _is(item, "unavailable") and is_local(item.source.path)]
        if not unseen and not unread:
            self._nodes.clear(place.node)
            return items
        chunk.avoid.add(place.node)
        on_other_node = place.node != ray.get_runtime_context().get_node_id()
        if unseen and decoded.lacks_corpus and on_other_node:
            self._nodes.lacks_files(place.node, unseen[0].source.corpus)
            return None
        item = (unseen or unread)[0]
        chunk.unread[place.node] = item.source, item.rejection.message if item.rejection else ""
        if len(chunk.avoid) < _MAX_NODES and self._nodes.has_usable_node(chunk.avoid):
            return None
        return [_not_seen(item, place) if item in unseen else item for item in items]

    def _strike_nodes(self, chunk: Chunk, decoded: tasks.Decoded) -> None:
        """Record that nodes could not read a file of the chunk that this node has read."""
        read = [item.source for item in decoded.items if item.state and item.state.sha256]
        for node, (source, reason) in list(chunk.unread.items()):
            if source in read:
                del chunk.unread[node]
                if node != decoded.place.node:
                    self._nodes.strike(node, reason)

    # Features

    def _embed(self, chunk: Chunk, items: list[DecodedItem], frames: list[Any]) -> None:
        self._window.decoded(chunk, items)
        actor, place, features = self._workers.embed(frames)
        self._waiting[place] = partial(self._embedded, chunk, items, actor, features)

    def _embedded(
        self, chunk: Chunk, items: list[DecodedItem], actor: Any, features: Any, ref: Any
    ) -> None:
        try:
            place = ray.get(ref)
        except ray.exceptions.RayError as error:
            retry = self._after_loss(chunk, actor, error)
            if retry:
                self._make_again(chunk)
                return
            items = self._given_up(chunk.sources, "features", error)
            features = ray.put(np.zeros((0, *self._spec.shape), np.float32))
        else:
            if not self._nodes.takes(place):
                self._workers.replace(actor)
                self._make_again(chunk)
                return
            self._budget.finished()
        self._window.end(chunk)
        shard = chunk.shard
        shard.chunks[chunk.index] = (items, features)
        self._count(items, True)
        if len(shard.chunks) == shard.num_chunks:
            self._write(shard)

    def _after_loss(self, chunk: Chunk, actor: Any, error: ray.exceptions.RayError) -> bool:
        """Replace a backbone that died or failed; return whether to retry the chunk."""
        broken = _is_defect(error)
        died = isinstance(error, ray.exceptions.RayActorError)
        # Other calls of the same actor fail with it; only the first failure is counted.
        first = self._workers.replace(actor) if broken or died else True
        if broken and first:
            chunk.failures += 1
            if chunk.failures >= _MAX_FAILURES:
                names = f"{chunk.sources[0].item.key!r} and {len(chunk.sources) - 1} more items"
                raise JobError(
                    f"the network failed {chunk.failures} times, each time in a new process, over "
                    f"the frames of {names}: {_last_line(error)}"
                ) from error
        return not first or self._budget.lost()

    # Shards

    def _write(self, shard: Shard) -> None:
        parts = [shard.chunks[index] for index in range(shard.num_chunks)]
        items_ref, file = self._for_files(
            tasks.write_task,
            str(self._store / "shards" / f"shard-{shard.plan.number:05d}"),
            self._options.format,
            self._spec.shape,
            [item for items, _ in parts for item in items],
            *(features for _, features in parts),
        )
        self._waiting[file] = partial(self._written, shard, items_ref)

    def _written(self, shard: Shard, ended: Any, ref: Any) -> Made | None:
        try:
            written, items = ray.get([ref, ended])
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, OSError):
                raise cause from error
            if _is_defect(error):
                raise
            if not self._budget.lost():
                raise JobError(self._stalled(error)) from error
            if isinstance(error, _LOST_WRITER):
                self._write(shard)
                return None
            # The features are lost: subtract the items from the counts and compute the shard again.
            self._count([item for items, _ in shard.chunks.values() for item in items], False)
            self._again.extend(self._chunks_of(shard.plan))
            return None
        if written.file is None:
            self._nodes.lacks_files(written.place.node, self._store / "shards")
            self._write(shard)
            return None
        return shard.plan, items, written.file

    # Losses

    def _given_up(
        self, sources: Sequence[ItemFile], stage: str, error: ray.exceptions.RayError
    ) -> list[DecodedItem]:
        """Return items as rejected because their workers were lost repeatedly.

        The next call tries them again.

        Raises:
            JobError: no other work finishes either, so these items are not the cause.
        """
        if not self._budget.may_give_up:
            raise JobError(self._stalled(error)) from error
        line = f"its workers were lost again and again, lastly: {_last_line(error)}"
        return [
            rejected(source, Rejection(stage, "killed", one_line(f"{source.item.key}: {line}")))
            for source in sources
        ]

    def _stalled(self, error: ray.exceptions.RayError) -> str:
        return (
            f"workers are lost and nothing is finished in {self._budget.stalled_s:g} s, lastly: "
            f"{_last_line(error)}"
        )

    def _no_frames(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.zeros((0, self._spec.size, self._spec.size, 3), np.uint8)

    def _for_files(self, task: Any, *arguments: Any, avoid: Sequence[str] | set[str] = ()) -> Any:
        options = self._nodes.for_files(avoid)
        return (task.options(**options) if options else task).remote(*arguments)


# Errors after which the writer is lost, but the features that it wrote are still available.
_LOST_WRITER = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError)


def _is(item: DecodedItem, error: str) -> bool:
    return item.rejection is not None and item.rejection.error == error


def _not_seen(item: DecodedItem, place: Place) -> DecodedItem:
    line = f"{item.source.path}: is there, but node {name_of(place.node)} did not see it"
    return replace(item, rejection=Rejection("decode", "unavailable", one_line(line)))


def _last_line(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {(str(cause).strip().splitlines() or ['?'])[-1]}"


def _is_defect(error: Exception) -> bool:
    """Return whether the program failed rather than the machine that it ran on."""
    cause = getattr(error, "cause", None)
    failed = isinstance(error, ray.exceptions.RayTaskError)
    return failed and not isinstance(cause, ray.exceptions.RayError)
