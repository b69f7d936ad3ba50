"""Scheduler of the decode tasks, backbones and write tasks of one call.

It keeps the workers busy and the number of frames in memory low. A chunk of items is decoded in one
task. If Ray's worker dies, each item of the chunk is decoded in a task of its own. Work that a node
or worker loses is repeated as long as other work finishes; a failed backbone is replaced. Files
that one node cannot read are read on another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import ray
from upath import UPath

from intertitle.pipeline.backbones.spec import BackboneSpec
from intertitle.pipeline.errors import JobError
from intertitle.pipeline.feature_store.shards import ShardFile
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.plan import ShardPlan
from intertitle.pipeline.precompute.scheduling import tasks
from intertitle.pipeline.precompute.scheduling.actors import BackbonePool
from intertitle.pipeline.precompute.scheduling.budget import Budget
from intertitle.pipeline.precompute.scheduling.chunks import Chunk, Shard, Window
from intertitle.pipeline.precompute.scheduling.file_access import settle
from intertitle.pipeline.precompute.scheduling.losses import (
    LOST_WRITER,
    give_up,
    is_defect,
    last_line,
    stalled,
)
from intertitle.pipeline.precompute.scheduling.nodes import Nodes
from intertitle.pipeline.precompute.work import DecodedItem

Made = tuple[ShardPlan, list[DecodedItem], ShardFile]

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
            for ref in self._wait():
                if result := self._waiting.pop(ref)(ref):
                    yield result

    def _wait(self) -> list[Any]:
        """Wait until a reference is ready; return all that are, because each wait looks at all."""
        refs = list(self._waiting)
        ray.wait(refs, num_returns=1)
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        return list(ready)

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
            if is_defect(error):
                raise
            examination = _Examination(chunk)
            for n in range(len(chunk.sources)):
                self._examine(examination, n)
            return
        items = settle(self._nodes, chunk, decoded)
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
            items = settle(self._nodes, chunk, ray.get(ref))
        except ray.exceptions.RayError as error:
            # The item cannot end the task, which only monitors the process that decodes the item:
            # the machine is at fault.
            if is_defect(error):
                raise
            items = None
            if not self._budget.lost():
                items = give_up(self._budget, chunk.sources[n : n + 1], "decode", error)
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
            items = give_up(self._budget, chunk.sources, "features", error)
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
        broken = is_defect(error)
        died = isinstance(error, ray.exceptions.RayActorError)
        # Other calls of the same actor fail with it; only the first failure is counted.
        first = self._workers.replace(actor) if broken or died else True
        if broken and first:
            chunk.failures += 1
            if chunk.failures >= _MAX_FAILURES:
                names = f"{chunk.sources[0].item.key!r} and {len(chunk.sources) - 1} more items"
                raise JobError(
                    f"the network failed {chunk.failures} times, each time in a new process, over "
                    f"the frames of {names}: {last_line(error)}"
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
            if is_defect(error):
                raise
            if not self._budget.lost():
                raise JobError(stalled(self._budget, error)) from error
            if isinstance(error, LOST_WRITER):
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

    def _no_frames(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.zeros((0, self._spec.size, self._spec.size, 3), np.uint8)

    def _for_files(self, task: Any, *arguments: Any, avoid: Sequence[str] | set[str] = ()) -> Any:
        options = self._nodes.for_files(avoid)
        return (task.options(**options) if options else task).remote(*arguments)
