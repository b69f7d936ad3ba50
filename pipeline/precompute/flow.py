"""Shards in the making: decode tasks, backbones and writers kept busy, frames in memory kept few.

A chunk of items is decoded whole. Where Ray's worker dies, each of its items is examined in a task
of its own. What a dying node takes along is made again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
from upath import UPath

from pipeline.backbone import BATCH, BackboneSpec
from pipeline.plan import ShardPlan
from pipeline.precompute.options import PrecomputeOptions
from pipeline.precompute.workers import Workers
from pipeline.sampling import Sampling, Uniform
from pipeline.sandbox import decode_confined, examine
from pipeline.shards import ShardFile
from pipeline.source import Source
from pipeline.work import DecodedItem, write_features

Made = tuple[ShardPlan, list[DecodedItem], ShardFile]

# How often a chunk or a shard is made again after its frames or features were lost with a node.
_MAX_LOSSES = 3


# Retries of a chunk are this module's: Ray would try one that ends its process again, whole.
_decode_chunk = ray.remote(num_cpus=1, num_returns=2, max_retries=0)(decode_confined)
_write_features = ray.remote(num_cpus=0, num_returns=2)(write_features)
_examine = ray.remote(num_cpus=1, num_returns=2)(examine)


@dataclass(eq=False)
class _Shard:
    """A shard in the making: its chunks arrive in any order."""

    plan: ShardPlan
    num_chunks: int
    chunks: dict[int, tuple[list[DecodedItem], Any]] = field(default_factory=dict)
    losses: int = 0


@dataclass(eq=False)
class _Chunk:
    """A part of a shard that is being decoded."""

    shard: _Shard
    index: int
    sources: tuple[Source, ...]
    losses: int = 0


class Flow:
    """One call's work.

    Args:
        workers: the backbones.
        store: where shards go.
        spec: of the backbone.
        options: of the call.
        count: told of items as they get their features: how many, and how many of them failed.
    """

    def __init__(
        self,
        workers: Workers,
        store: UPath,
        spec: BackboneSpec,
        options: PrecomputeOptions,
        count: Callable[[int, int], None],
    ) -> None:
        self._workers, self._store, self._spec = workers, store, spec
        self._options, self._count = options, count
        self._max_chunks = 2 * workers.num_cpus + 2
        self._num_chunks = 0
        self._again: deque[_Chunk] = deque()
        # What to do when a reference is ready.
        self._waiting: dict[Any, Callable[[Any], Made | None]] = {}

    def run(self, plans: Iterator[ShardPlan]) -> Iterator[Made]:
        """Make shards; each is yielded when an attempt at it is written.

        Raises:
            OSError: a shard could not be written.
            ray.exceptions.RayError: a worker failed for good.
        """
        todo = self._chunks(plans)
        while True:
            while self._num_chunks < self._max_chunks and (chunk := self._next(todo)):
                self._num_chunks += 1
                self._decode(chunk)
            if not self._waiting:
                return
            (ref,), _ = ray.wait(list(self._waiting), num_returns=1)
            if made := self._waiting.pop(ref)(ref):
                yield made

    def _chunks(self, plans: Iterator[ShardPlan]) -> Iterator[_Chunk]:
        for plan in plans:
            yield from self._chunks_of(plan)

    def _chunks_of(self, plan: ShardPlan, losses: int = 0) -> Iterator[_Chunk]:
        parts = _cut(plan.sources, self._options.sampling)
        shard = _Shard(plan, len(parts), losses=losses)
        for index, sources in enumerate(parts):
            yield _Chunk(shard, index, sources)

    def _next(self, todo: Iterator[_Chunk]) -> _Chunk | None:
        return self._again.popleft() if self._again else next(todo, None)

    def _decode(self, chunk: _Chunk) -> None:
        options = self._options
        items, frames = _decode_chunk.remote(
            chunk.sources, options.sampling, self._spec.size, options.limits
        )
        self._waiting[items] = partial(self._decoded, chunk, frames)

    def _decoded(self, chunk: _Chunk, frames: Any, ref: Any) -> None:
        try:
            items = ray.get(ref)
        except ray.exceptions.RayError as error:
            if _is_defect(error):
                raise
            self._examine(chunk)
        else:
            self._embed(chunk, items, [frames])

    def _examine(self, chunk: _Chunk) -> None:
        """Find out which item of a chunk ended its process."""
        items: dict[int, DecodedItem] = {}
        parts: list[Any] = []
        for n, source in enumerate(chunk.sources):
            item, frames = _examine.remote(
                source, self._options.sampling, self._spec.size, self._options.limits
            )
            parts.append(frames)
            self._waiting[item] = partial(self._examined, chunk, items, parts, n)

    def _examined(
        self, chunk: _Chunk, items: dict[int, DecodedItem], parts: list[Any], n: int, ref: Any
    ) -> None:
        items[n] = ray.get(ref)
        if len(items) == len(chunk.sources):
            self._embed(chunk, [items[n] for n in range(len(items))], parts)

    def _embed(self, chunk: _Chunk, items: list[DecodedItem], frames: list[Any]) -> None:
        number, features = self._workers.embed(frames)
        self._waiting[number] = partial(self._embedded, chunk, items, features)

    def _embedded(self, chunk: _Chunk, items: list[DecodedItem], features: Any, ref: Any) -> None:
        self._num_chunks -= 1
        shard = chunk.shard
        try:
            ray.get(ref)
        except ray.exceptions.RayError as error:
            chunk.losses += 1
            if _is_defect(error) or chunk.losses > _MAX_LOSSES:
                raise
            self._again.append(chunk)
            return
        shard.chunks[chunk.index] = (items, features)
        self._count(len(items), _num_failed(items))
        if len(shard.chunks) == shard.num_chunks:
            self._write(shard)

    def _write(self, shard: _Shard) -> None:
        parts = [shard.chunks[index] for index in range(shard.num_chunks)]
        ended, file = _write_features.remote(
            str(self._store / "shards" / f"shard-{shard.plan.number:05d}"),
            self._options.format,
            self._spec.shape,
            [item for items, _ in parts for item in items],
            *(features for _, features in parts),
        )
        self._waiting[file] = partial(self._written, shard, ended)

    def _written(self, shard: _Shard, ended: Any, ref: Any) -> Made | None:
        try:
            file, items = ray.get([ref, ended])
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, OSError):
                raise cause from error
            if _is_defect(error) or shard.losses == _MAX_LOSSES:
                raise
            # Its features are lost: count them back, and make the shard again.
            items = [item for items, _ in shard.chunks.values() for item in items]
            self._count(-len(items), -_num_failed(items))
            self._again.extend(self._chunks_of(shard.plan, shard.losses + 1))
            return None
        return shard.plan, items, file


def _cut(sources: Sequence[Source], sampling: Sampling) -> list[tuple[Source, ...]]:
    """Parts of at most as many frames as the network takes at once, or of one item."""
    of_video = sampling.num_frames if isinstance(sampling, Uniform) else BATCH
    parts: list[tuple[Source, ...]] = []
    frames = BATCH
    for source in sources:
        more = of_video if source.item.kind == "video" else 1
        frames += more
        if frames > BATCH:
            parts.append(())
            frames = more
        parts[-1] += (source,)
    return parts


def _num_failed(items: list[DecodedItem]) -> int:
    return sum(item.rejection is not None for item in items)


def _is_defect(error: Exception) -> bool:
    """Whether the program failed, rather than the machine it ran on."""
    cause = getattr(error, "cause", None)
    failed = isinstance(error, ray.exceptions.RayTaskError)
    return failed and not isinstance(cause, ray.exceptions.RayError)
