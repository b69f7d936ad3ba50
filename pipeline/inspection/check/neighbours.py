"""Pairs of vectors with a high cosine, without comparing all pairs.

Vectors are hashed by the signs of random projections (Charikar 2002), in bands: two vectors are
compared if all signs of a band are equal. The number of signs grows with the number of vectors, so
that a vector meets only a few others by chance, and the number of bands so that pairs at the
threshold are missed rarely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Probability that a pair at the threshold is missed.
_MISSED = 0.02
_MIN_SIGNS, _MAX_SIGNS, _MAX_BANDS = 6, 20, 96
# Maximum number of vectors in a bucket that a vector is compared with: a million pictures of one
# black screen would be compared pairwise otherwise.
_MAX_BUCKET = 256
# Number of candidate pairs that are compared at a time.
_BLOCK = 200_000


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of similar vectors.

    Attributes:
        first: smaller index of each pair, int64, [P].
        second: larger index of each pair, int64, [P].
        cosine: largest cosine of each pair, float32, [P].
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosine: NDArray[np.float32]


def similar_pairs(
    vectors: NDArray[np.float32],
    threshold: float,
    variants: int = 1,
    variant: Callable[[int], NDArray[np.float32]] | None = None,
) -> Pairs:
    """Find the pairs of vectors whose cosine is at least a threshold.

    Args:
        vectors: vectors of length 1, float32, [N, D].
        threshold: smallest cosine of a pair.
        variants: number of variants of the vectors that are compared with the vectors.
        variant: function that returns the variant with an index, [N, D]; None if the only variant
            are the vectors themselves.
    """
    num, dim = vectors.shape
    signs = min(max(math.ceil(math.log2(max(num, 2))), _MIN_SIGNS), _MAX_SIGNS)
    same_sign = 1 - math.acos(min(threshold, 1.0)) / math.pi
    bands = min(math.ceil(math.log(_MISSED) / math.log1p(-(same_sign**signs))), _MAX_BANDS)
    planes = np.random.default_rng(0).normal(size=(dim, bands * signs)).astype(np.float32)
    own = _bucket_ids(vectors, planes, bands)
    order = np.argsort(own, axis=1, kind="stable")
    ordered = np.take_along_axis(own, order, 1)
    ids, cosines = np.zeros(0, np.int64), np.zeros(0, np.float32)
    for number in range(variants):
        queries = vectors if variant is None else variant(number)
        query_ids = own if variant is None else _bucket_ids(queries, planes, bands)
        for band in range(bands):
            new_ids, new_cosines = [ids], [cosines]
            for left, right in _candidates(query_ids[band], ordered[band], order[band]):
                cosine = np.einsum("nd,nd->n", queries[left], vectors[right])
                near = cosine >= threshold
                left, right = left[near], right[near]
                pair_ids = np.minimum(left, right) * num + np.maximum(left, right)
                new_ids.append(pair_ids)
                new_cosines.append(cosine[near])
            ids, cosines = _merge(new_ids, new_cosines)
    return Pairs(ids // num, ids % num, cosines)


def _merge(
    ids: list[NDArray[np.int64]], cosines: list[NDArray[np.float32]]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the different ids, sorted, and the largest cosine of each."""
    unique, position = np.unique(np.concatenate(ids), return_inverse=True)
    largest = np.full(len(unique), -1, np.float32)
    np.maximum.at(largest, position, np.concatenate(cosines))
    return unique, largest


def _bucket_ids(
    vectors: NDArray[np.float32], planes: NDArray[np.float32], bands: int
) -> NDArray[np.int32]:
    """Return the bucket of each vector in each band, [bands, N]."""
    powers = 1 << np.arange(planes.shape[1] // bands, dtype=np.int32)
    ids = np.empty((bands, len(vectors)), np.int32)
    for band, chosen in enumerate(np.split(planes, bands, axis=1)):
        ids[band] = (vectors @ chosen > 0) @ powers
    return ids


def _candidates(
    queries: NDArray[np.int32], ordered: NDArray[np.int32], order: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield blocks of pairs of a query and another vector in its bucket."""
    start = np.searchsorted(ordered, queries, "left")
    count = np.minimum(np.searchsorted(ordered, queries, "right") - start, _MAX_BUCKET)
    ends = np.cumsum(count)
    begin = 0
    while begin < len(queries):
        passed = ends[begin - 1] if begin else 0
        end = max(int(np.searchsorted(ends, passed + _BLOCK, "right")), begin + 1)
        sizes = count[begin:end]
        left = np.repeat(np.arange(begin, end), sizes)
        within = np.arange(len(left)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        right = order[np.repeat(start[begin:end], sizes) + within]
        is_pair = left != right
        yield left[is_pair], right[is_pair]
        begin = end
