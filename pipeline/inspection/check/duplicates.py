"""Find items that are the same or almost the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.inspection.check.files import ReadItem
from intertitle.pipeline.inspection.check.neighbours import Pairs, similar_pairs
from intertitle.pipeline.inspection.check.pictures import CROPS, descriptors, is_blank

# The kinds of evidence, the strongest first.
Evidence = Literal["item", "identical", "file", "near", "features", "text"]

# Smallest cosines of near-duplicates: of pictures, and of centred features.
NEAR, NEAR_FEATURES = 0.92, 0.97
# Features are projected to this number of dimensions at most.
_MAX_DIM = 256


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two items, or two texts, that are the same or almost the same.

    Attributes:
        evidence: "identical" for equal bytes, "file" for different segments of one file, "near" for
            similar pictures, "features" for similar features, "item" for one item with examples in
            several splits, "text" for equal source texts.
        first: key of an item, or id of an example for texts.
        second: key or id of the other one.
        similarity: cosine of the pictures or features; 1 for the other kinds.
    """

    evidence: Evidence
    first: str
    second: str
    similarity: float = 1.0


def same_files(read: Iterable[ReadItem]) -> list[Duplicate]:
    """Find items with equal bytes, each paired with the first of its kind."""
    first_of: dict[tuple[str, str], str] = {}
    file_of: dict[str, str] = {}
    duplicates = []
    for entry in read:
        if entry.sha256 is None:
            continue
        key = entry.item.key
        first = first_of.setdefault((entry.sha256, entry.item.selection), key)
        if first != key:
            duplicates.append(Duplicate("identical", first, key))
            continue
        first = file_of.setdefault(entry.sha256, key)
        if first != key:
            duplicates.append(Duplicate("file", first, key))
    return duplicates


def similar_pictures(read: Sequence[ReadItem]) -> list[Duplicate]:
    """Find items with similar pictures, whole or cropped; blank pictures are left out.

    Videos are similar if their frames are, at the same parts of their lengths.
    """
    duplicates = []
    for num_frames in sorted({len(entry.pictures) for entry in read} - {0}):
        chosen = [entry for entry in read if len(entry.pictures) == num_frames]
        pictures = np.stack([entry.pictures for entry in chosen])
        keys = [entry.item.key for entry in chosen]
        usable = np.flatnonzero(~is_blank(pictures))
        if not len(usable):
            continue
        pictures, keys = pictures[usable], [keys[n] for n in usable]
        crop_pairs = similar_pairs(
            descriptors(pictures), NEAR, len(CROPS), _Crops(pictures).descriptors
        )
        duplicates += _named(crop_pairs, keys, "near")
    return duplicates


@dataclass(frozen=True, slots=True)
class _Crops:
    pictures: NDArray[np.uint8]

    def descriptors(self, crop: int) -> NDArray[np.float32]:
        return descriptors(self.pictures, crop)


def similar_features(store: FeatureStore, keys: Sequence[str]) -> list[Duplicate]:
    """Find items with similar features, after the mean over all items is subtracted.

    Args:
        store: feature store.
        keys: keys of items; those without features are left out.
    """
    keys = [key for key in keys if key in store]
    if len(keys) < 2:
        return []
    dim = store.snapshot.fingerprint.dim
    means = np.empty((len(keys), min(dim, _MAX_DIM)), np.float32)
    # Cosines close to 1 survive a random projection (Johnson & Lindenstrauss 1984).
    projection = np.random.default_rng(0).normal(size=(dim, _MAX_DIM)).astype(np.float32)
    for n, key in enumerate(keys):
        features = store.features(key)
        mean = features.reshape(-1, dim).mean(0)
        means[n] = mean @ projection if dim > _MAX_DIM else mean
    means -= means.mean(0)
    norms = np.linalg.norm(means, axis=1)
    usable = np.flatnonzero(norms > 1e-3 * norms.mean())
    vectors = means[usable] / norms[usable, None]
    return _named(similar_pairs(vectors, NEAR_FEATURES), [keys[n] for n in usable], "features")


def _named(pairs: Pairs, keys: Sequence[str], evidence: Evidence) -> list[Duplicate]:
    return [
        Duplicate(evidence, keys[i], keys[j], round(float(cosine), 4))
        for i, j, cosine in zip(pairs.first, pairs.second, pairs.cosine, strict=True)
    ]
