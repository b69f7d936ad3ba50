"""Division of shards into chunks, and the limit on the chunks that are in memory at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from intertitle.pipeline.backbones import BATCH
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.sampling import Sampling, Uniform
from intertitle.pipeline.precompute.plan import ShardPlan
from intertitle.pipeline.precompute.work import DecodedItem

# Maximum size of the frames of one chunk. It is a constant rather than a share of a machine's
# memory, because the division into chunks must not depend on where a call runs.
_MAX_CHUNK_BYTES = 32 << 20
# Maximum share of Ray's object store that frames may take. The rest is for features and for the
# copies of frames on the nodes that run backbones.
_SHARE = 0.3
# The size of a chunk that is not decoded yet is estimated as the largest of this many last chunks.
_REMEMBERED = 16


@dataclass(eq=False)
class Shard:
    """A shard whose chunks are being processed; they finish in any order.

    Attributes:
        plan: plan of the shard.
        num_chunks: number of chunks in the shard.
        chunks: decoded items and a reference to their features, by the index of a finished chunk.
    """

    plan: ShardPlan
    num_chunks: int
    chunks: dict[int, tuple[list[DecodedItem], Any]] = field(default_factory=dict)


@dataclass(eq=False)
class Chunk:
    """A part of a shard that is being decoded.

    Attributes:
        shard: shard that the chunk belongs to.
        index: position of the chunk in the shard.
        sources: items of the chunk.
        num_bytes: size of the chunk's frames in bytes; an estimate until they are decoded.
        avoid: ids of the nodes that could not read the chunk's files.
        unread: a file that a node could not read, and why, by the id of the node; until another
            node has read it.
        failures: number of times that the backbone raised an error on the chunk.
    """

    shard: Shard
    index: int
    sources: tuple[ItemFile, ...]
    num_bytes: int = 0
    avoid: set[str] = field(default_factory=set)
    unread: dict[str, tuple[ItemFile, str]] = field(default_factory=dict)
    failures: int = 0


class Window:
    """Limit on the chunks in progress, by their number and by the size of their frames.

    Args:
        max_chunks: maximum number of chunks in progress.
        store_bytes: size of Ray's object store in bytes.
        frame_bytes: size of one frame in bytes.
        sampling: rule that selects the frames of a video.
    """

    def __init__(
        self, max_chunks: int, store_bytes: float, frame_bytes: int, sampling: Sampling
    ) -> None:
        self._max_chunks, self._max_bytes = max_chunks, int(_SHARE * store_bytes)
        self._frame_bytes, self._sampling = frame_bytes, sampling
        self._chunks: set[Chunk] = set()
        self._seen: deque[int] = deque(maxlen=_REMEMBERED)

    def cut(self, sources: Sequence[ItemFile]) -> list[tuple[ItemFile, ...]]:
        """Divide items into chunks of at most one backbone batch of frames, or of one item."""
        max_frames = max(1, min(BATCH, _MAX_CHUNK_BYTES // self._frame_bytes))
        parts: list[tuple[ItemFile, ...]] = []
        frames = max_frames
        for source in sources:
            num_frames = self._num_frames(source)
            frames += num_frames
            if frames > max_frames:
                parts.append(())
                frames = num_frames
            parts[-1] += (source,)
        return parts

    def has_room(self) -> bool:
        """Return whether another chunk may be started; one chunk is always allowed."""
        if not self._chunks:
            return True
        taken = sum(chunk.num_bytes for chunk in self._chunks)
        return len(self._chunks) < self._max_chunks and taken + self._guess() <= self._max_bytes

    def begin(self, chunk: Chunk) -> None:
        """Add a chunk whose decoding starts."""
        frames = sum(self._num_frames(source) for source in chunk.sources)
        exact = isinstance(self._sampling, Uniform)
        chunk.num_bytes = frames * self._frame_bytes if exact else self._guess()
        self._chunks.add(chunk)

    def decoded(self, chunk: Chunk, items: Sequence[DecodedItem]) -> None:
        """Record the size of a chunk's decoded frames."""
        clips = sum(len(item.times_s) for item in items)
        chunk.num_bytes = clips * self._sampling.window * self._frame_bytes
        self._seen.append(chunk.num_bytes)

    def end(self, chunk: Chunk) -> None:
        """Remove a chunk whose frames are no longer in memory."""
        self._chunks.discard(chunk)

    def _guess(self) -> int:
        """Estimate the size in bytes of the frames of a chunk that is not decoded yet."""
        return max(self._seen, default=min(BATCH * self._frame_bytes, _MAX_CHUNK_BYTES))

    def _num_frames(self, source: ItemFile) -> int:
        if source.item.kind == "image":
            return self._sampling.window
        if isinstance(self._sampling, Uniform):
            return self._sampling.num_frames * self._sampling.window
        return BATCH
