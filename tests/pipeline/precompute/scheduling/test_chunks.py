"""Chunks of a shard, and how many of them are in the making."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.sampling import Rate, Sampling, Uniform
from intertitle.pipeline.precompute.plan import ShardPlan
from intertitle.pipeline.precompute.scheduling.chunks import Chunk, Shard, Window
from intertitle.pipeline.precompute.work import DecodedItem

SMALL = 224 * 224 * 3
LARGE = 1024 * 1024 * 3


def sources(kind: Any, number: int) -> tuple[ItemFile, ...]:
    return tuple(ItemFile(Item(str(n), str(n), kind), "/nowhere") for n in range(number))


def chunk(*of: ItemFile) -> Chunk:
    return Chunk(Shard(ShardPlan(0, np.zeros(0, np.int64), of, ""), 1), 0, of)


def decoded(of: Chunk, num_frames: int) -> list[DecodedItem]:
    return [DecodedItem(source, None, np.zeros(num_frames)) for source in of.sources]


@pytest.mark.parametrize(
    ("sampling", "kind", "frame_bytes", "sizes"),
    [
        (Uniform(8), "image", SMALL, [32, 32, 6]),
        (Uniform(8), "video", SMALL, [4] * 17 + [2]),
        (Uniform(100), "video", SMALL, [1] * 70),
        (Rate(2), "video", SMALL, [1] * 70),
        # Of large frames fewer: how many depends on nothing but their size.
        (Uniform(8), "image", LARGE, [10] * 7),
        (Uniform(8), "video", LARGE, [1] * 70),
    ],
)
def test_a_chunk_is_what_a_network_takes_at_once_and_few_bytes(
    sampling: Sampling, kind: str, frame_bytes: int, sizes: list[int]
) -> None:
    window = Window(6, 1e9, frame_bytes, sampling)
    assert [len(part) for part in window.cut(sources(kind, 70))] == sizes


def filled(window: Window, num_frames: int | None = None) -> list[Chunk]:
    """Chunks of one video, begun until there is no room."""
    begun: list[Chunk] = []
    while window.has_room():
        begun.append(chunk(*sources("video", 1)))
        window.begin(begun[-1])
        if num_frames is not None:
            window.decoded(begun[-1], decoded(begun[-1], num_frames))
    return begun


def test_small_frames_are_bounded_by_number_and_large_ones_by_bytes() -> None:
    assert len(filled(Window(6, 1e9, SMALL, Uniform(8)))) == 6
    begun = filled(Window(6, 2e8, LARGE, Uniform(8)))
    assert sum(one.num_bytes for one in begun) <= 0.3 * 2e8 and len(begun) == 2
    # One is always begun, however large.
    assert len(filled(Window(6, 1e6, LARGE, Uniform(8)))) == 1


def test_what_a_rate_gives_is_learnt_from_what_was_decoded() -> None:
    window = Window(10, 1e9, SMALL, Rate(2))
    first = filled(window, num_frames=500)
    assert sum(one.num_bytes for one in first) <= 0.3 * 1e9
    for one in first:
        window.end(one)
    # The next is taken to be as large.
    assert len(filled(window)) == int(0.3 * 1e9 // (500 * SMALL)) == len(first)


def test_a_chunk_that_ended_makes_room() -> None:
    window = Window(2, 1e9, SMALL, Uniform(8))
    first, _ = filled(window)
    window.end(first)
    assert len(filled(window)) == 1
