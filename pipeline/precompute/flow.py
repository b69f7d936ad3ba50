"""Shards in the making: decode tasks, backbones and writers kept busy, frames in memory kept few.

A chunk of items is decoded whole. Where Ray's worker dies, each of its items is examined in a task
of its own. What a dying node or worker takes along is made again, as long as anything gets done; a
broken backbone is replaced. What one node can't read is read on another.
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

from pipeline.backbone import BackboneSpec
from pipeline.errors import JobError, one_line
from pipeline.location import is_local
from pipeline.plan import ShardPlan
from pipeline.precompute import tasks
from pipeline.precompute.budget import Budget
from pipeline.precompute.chunks import Chunk, Shard, Window
from pipeline.precompute.nodes import Nodes, Place, name_of
from pipeline.precompute.options import PrecomputeOptions
from pipeline.precompute.workers import Workers
from pipeline.shards import ShardFile
from pipeline.source import Source, is_there
from pipeline.work import DecodedItem, Rejection, rejected

Made = tuple[ShardPlan, list[DecodedItem], ShardFile]

# On how many nodes the files of a chunk are tried.
_MAX_NODES = 3
# How often a network may raise an error over one chunk, each time in a new process.
_MAX_FAILURES = 3


@dataclass(eq=False)
class _Examination:
    """The items of a chunk, each in a process of its own."""

    chunk: Chunk
    items: dict[int, DecodedItem] = field(default_factory=dict)
    frames: dict[int, Any] = field(default_factory=dict)


class Flow:
    """One call's work.

    Args:
        workers: the backbones.
        nodes: that the work runs on.
        store: where shards go.
        spec: of the backbone.
        options: of the call.
        count: told of items as they get their features; and, with False, of those of which the
            features were lost again.
    """

    def __init__(
        self,
        workers: Workers,
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
        # What to do when a reference is ready.
        self._waiting: dict[Any, Callable[[Any], Made | None]] = {}

    def run(self, plans: Iterator[ShardPlan]) -> Iterator[Made]:
        """Make shards; each is yielded when an attempt at it is written.

        Raises:
            OSError: a shard could not be written.
            JobError: no node is left for the work, or nothing gets done any more.
            ray.exceptions.RayError: a worker failed for good.
        """
        todo = self._chunks(plans)
        while True:
            while self._window.has_room() and (chunk := self._next(todo)):
                self._window.begin(chunk)
                self._decode(chunk)
            if not self._waiting:
                return
            (ref,), _ = ray.wait(list(self._waiting), num_returns=1)
            if made := self._waiting.pop(ref)(ref):
                yield made

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
        """Find out whether an item of a chunk is what ended its process."""
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
            # The item can't end this process, which only watches its own.
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
            everything = range(len(chunk.sources))
            self._embed(
                chunk,
                [examination.items[n] for n in everything],
                [examination.frames[n] for n in everything],
            )

    def _settled(self, chunk: Chunk, decoded: tasks.Decoded) -> list[DecodedItem] | None:
        """What became of items, or None if they are to be decoded on another node."""
        place, items = decoded.place, decoded.items
        if not self._nodes.takes(place):
            return None
        unseen = [item for item in items if _is(item, "missing") and is_there(item.source)]
        unread = [item for item in items if _is(item, "unavailable") and is_local(item.source.path)]
        if not unseen and not unread:
            self._nodes.clear(place.node)
            return items
        chunk.avoid.add(place.node)
        if unseen and place.node != ray.get_runtime_context().get_node_id():
            self._nodes.lacks_files(place.node, unseen[0].source.path)
            return None
        if unread and unread[0].rejection:
            self._nodes.strike(place.node, unread[0].rejection.message)
        if len(chunk.avoid) < _MAX_NODES and self._nodes.others(chunk.avoid):
            return None
        return [_not_seen(item, place) if item in unseen else item for item in items]

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
            again = self._after_loss(chunk, actor, error)
            if again:
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
        """Replace a backbone where it is the one at fault; whether a chunk is tried again."""
        broken = _is_defect(error)
        died = isinstance(error, ray.exceptions.RayActorError)
        # Whatever else waited for the same actor failed with it, and is not counted.
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
        ended, file = self._for_files(
            tasks.write_task,
            str(self._store / "shards" / f"shard-{shard.plan.number:05d}"),
            self._options.format,
            self._spec.shape,
            [item for items, _ in parts for item in items],
            *(features for _, features in parts),
        )
        self._waiting[file] = partial(self._written, shard, ended)

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
            # Its features are lost: count them back, and make the shard again.
            self._count([item for items, _ in shard.chunks.values() for item in items], False)
            self._again.extend(self._chunks_of(shard.plan))
            return None
        if written.file is None:
            self._nodes.lacks_files(written.place.node, self._store / "shards")
            self._write(shard)
            return None
        return shard.plan, items, written.file

    # What is lost

    def _given_up(
        self, sources: Sequence[Source], stage: str, error: ray.exceptions.RayError
    ) -> list[DecodedItem]:
        """Items whose workers are lost again and again; the next call tries them again.

        Raises:
            JobError: it is not these items: nothing else gets done either.
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


# The process that wrote is gone, and what it wrote from is still there.
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
    """Whether the program failed, rather than the machine it ran on."""
    cause = getattr(error, "cause", None)
    failed = isinstance(error, ray.exceptions.RayTaskError)
    return failed and not isinstance(cause, ray.exceptions.RayError)
