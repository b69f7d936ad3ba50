"""What a worker does to a chunk of items, as plain functions: Ray is not known here."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Item
from pipeline.decode import DecodeError, decode
from pipeline.sampling import Sampling
from pipeline.shards import Format, ItemFeatures, ShardFile, write_shard
from pipeline.source import FileState, file_state


@dataclass(frozen=True, slots=True)
class Source:
    """An item and where its file is."""

    item: Item
    path: Path


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an item has no features.

    Attributes:
        stage: where it failed: "decode" or "features".
        error: the class of the failure.
        message: one line.
    """

    stage: str
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class DecodedItem:
    """What became of one item of a chunk; its frames travel apart.

    Attributes:
        source: the item.
        state: of its file; None if it could not be read.
        times_s: of its frames, [T]; empty for a rejected item.
        rejection: why it has no frames, or None.
    """

    source: Source
    state: FileState | None
    times_s: NDArray[np.float64]
    rejection: Rejection | None = None


def reject(source: Source, rejection: Rejection) -> DecodedItem:
    """An item that ends in quarantine."""
    try:
        state = file_state(source.path)
    except DecodeError:
        state = None
    return DecodedItem(source, state, np.zeros(0), rejection)


def decode_chunk(
    sources: Sequence[Source], sampling: Sampling, size: int
) -> tuple[list[DecodedItem], NDArray[np.uint8]]:
    """Decode items one after the other.

    Returns:
        What became of each, and the frames of all, uint8 [sum of T, size, size, 3].
    """
    decoded: list[DecodedItem] = []
    frames = [np.zeros((0, size, size, 3), np.uint8)]
    for source in sources:
        try:
            state = file_state(source.path)
            result = decode(source.path, source.item, sampling, size)
        except DecodeError as error:
            decoded.append(reject(source, Rejection("decode", error.error, error.message)))
        else:
            decoded.append(DecodedItem(source, state, result.times_s))
            frames.append(result.pixels)
    return decoded, np.concatenate(frames)


def write_features(
    path: Path,
    format: Format,
    dim: int,
    decoded: Sequence[DecodedItem],
    *parts: NDArray[np.float32],
) -> tuple[list[DecodedItem], ShardFile]:
    """Write an attempt at a shard.

    Args:
        path: of the shard without an ending. Each call writes a file of its own beside it, so that
            an attempt whose worker died does not stand in the way of the next.
        format: of the shard.
        dim: D.
        decoded: the shard's items in order.
        parts: their features in the same order, float32 [frames, dim] each.

    Returns:
        What became of each item, now with those whose features are not finite, and the file.
    """
    values = np.concatenate(parts)
    ended: list[DecodedItem] = []
    rows: list[ItemFeatures] = []
    at = 0
    for item in decoded:
        mine = values[at : at + len(item.times_s)]
        at += len(item.times_s)
        if item.rejection is None and not np.isfinite(mine).all():
            message = f"{item.source.path}: its features are not finite"
            item = reject(item.source, Rejection("features", "not_finite", message))
        elif item.rejection is None:
            rows.append(ItemFeatures(item.source.item.key, item.times_s, mine))
        ended.append(item)
    assert at == len(values), f"{path}: {at} frames decoded, {len(values)} features made"
    attempt = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    return ended, write_shard(attempt, format, rows, dim)
