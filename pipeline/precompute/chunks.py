"""Shards are decoded in chunks, of which only so many bytes are in memory at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.backbone import BATCH
from pipeline.plan import ShardPlan
from pipeline.sampling import Sampling, Uniform
from pipeline.source import Source
from pipeline.work import DecodedItem

# Of the frames of one chunk. A constant, and no share of some machine's memory: how items are cut
# into chunks must not depend on where a call runs.
_MAX_CHUNK_BYTES = 32 << 20
# The frames in the making may take this share of Ray's object store. The rest is for features, and
# for the frames' second copies on the nodes that compute.
_SHARE = 0.3
# What is to be decoded is taken to be as large as the largest of so many before it.
_REMEMBERED = 16


@dataclass(eq=False)
class Shard:
    """A shard in the making: its chunks arrive in any order.

    Attributes:
        plan: of it.
        num_chunks: that it is cut into.
        chunks: what became of the items of those that are done, and a reference to their features.
    """

    plan: ShardPlan
    num_chunks: int
    chunks: dict[int, tuple[list[DecodedItem], Any]] = field(default_factory=dict)


@dataclass(eq=False)
class Chunk:
    """A part of a shard that is being decoded.

    Attributes:
        shard: of which.
        index: its place there.
        sources: its items.
        num_bytes: of its frames, as far as they are known.
        avoid: nodes that could not read its files.
        failures: how often the network raised an error over it.
    """

    shard: Shard
    index: int
    sources: tuple[Source, ...]
    num_bytes: int = 0
    avoid: set[str] = field(default_factory=set)
    failures: int = 0


class Window:
    """How many chunks may be in the making: by number, and by the bytes of their frames.

    Args:
        max_chunks: by number.
        store_bytes: of Ray's object store.
        frame_bytes: of one frame.
        sampling: which frames of a video.
    """

    def __init__(
        self, max_chunks: int, store_bytes: float, frame_bytes: int, sampling: Sampling
    ) -> None:
        self._max_chunks, self._max_bytes = max_chunks, int(_SHARE * store_bytes)
        self._frame_bytes, self._sampling = frame_bytes, sampling
        self._chunks: set[Chunk] = set()
        self._seen: deque[int] = deque(maxlen=_REMEMBERED)

    def cut(self, sources: Sequence[Source]) -> list[tuple[Source, ...]]:
        """Parts of at most as many frames as the network takes at once, or of one item."""
        at_most = max(1, min(BATCH, _MAX_CHUNK_BYTES // self._frame_bytes))
        parts: list[tuple[Source, ...]] = []
        frames = at_most
        for source in sources:
            more = self._num_frames(source)
            frames += more
            if frames > at_most:
                parts.append(())
                frames = more
            parts[-1] += (source,)
        return parts

    def has_room(self) -> bool:
        """Whether another chunk may be begun; one always may."""
        if not self._chunks:
            return True
        taken = sum(chunk.num_bytes for chunk in self._chunks)
        return len(self._chunks) < self._max_chunks and taken + self._guess() <= self._max_bytes

    def begin(self, chunk: Chunk) -> None:
        """Note that a chunk is being decoded."""
        frames = sum(self._num_frames(source) for source in chunk.sources)
        exact = isinstance(self._sampling, Uniform)
        chunk.num_bytes = frames * self._frame_bytes if exact else self._guess()
        self._chunks.add(chunk)

    def decoded(self, chunk: Chunk, items: Sequence[DecodedItem]) -> None:
        """Note how large a chunk's frames are."""
        chunk.num_bytes = sum(len(item.times_s) for item in items) * self._frame_bytes
        self._seen.append(chunk.num_bytes)

    def end(self, chunk: Chunk) -> None:
        """Note that a chunk's frames are in memory no more."""
        self._chunks.discard(chunk)

    def _guess(self) -> int:
        """Of the frames of a chunk that is not decoded yet."""
        return max(self._seen, default=min(BATCH * self._frame_bytes, _MAX_CHUNK_BYTES))

    def _num_frames(self, source: Source) -> int:
        if source.item.kind == "image":
            return 1
        return self._sampling.num_frames if isinstance(self._sampling, Uniform) else BATCH
