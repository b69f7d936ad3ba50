"""The features of several stores of the same items, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.store import FeatureStore


class JoinedStores:
    """Reader of one or more feature stores that concatenates the features of each item.

    A frame's vectors are joined in the order of the stores, such as appearance and motion:
    [T, D1] and [T, D2] become [T, D1 + D2], and grids cell by cell. An item has features if every
    store has some of it.

    Args:
        stores: stores of the same corpus, at least one.

    Attributes:
        stores: stores that were passed.
        frame_shape: shape of the features of one frame, (D,) or (cells, D).

    Raises:
        UserError: a store is given twice, or the grids of two stores have different sizes.
    """

    def __init__(self, stores: Sequence[FeatureStore]) -> None:
        self.stores = tuple(stores)
        paths = [str(store.path.absolute()) for store in self.stores]
        for n, path in enumerate(paths):
            if path in paths[:n]:
                raise UserError(f"--features {path}: given twice, allowed: different stores")
        first = self.stores[0]
        widths = [store.snapshot.fingerprint.shape[-1] for store in self.stores]
        cells = first.snapshot.fingerprint.shape[:-1]
        for store in self.stores:
            shape = store.snapshot.fingerprint.shape
            if shape[:-1] != cells:
                raise UserError(
                    f"{store.path}: a grid of {shape[0]} cells, that of {first.path} has "
                    f"{cells[0]}; grids are joined cell by cell and have to be of one size"
                )
        self.frame_shape: tuple[int, ...] = (*cells, sum(widths))

    def is_stored(self, key: str, corpus: str) -> bool:
        """Return whether every store has the features of an item.

        Args:
            key: key of the item.
            corpus: path of the corpus, for the message.

        Raises:
            UserError: a store has no record of the item, neither as stored nor in quarantine.
        """
        missing = [store for store in self.stores if key not in store]
        for store in missing:
            if store.record(key) is None:
                raise UserError(
                    f"{store.path}: has nothing on item {key!r} of {corpus}; "
                    "run `intertitle precompute` again"
                )
        return not missing

    def num_frames(self, key: str) -> int:
        """Return the number of frames T of an item that is stored.

        Raises:
            KeyError: a store has no features of the item.
            UserError: the stores have different numbers of frames of it.
        """
        return self._checked(key, [store.num_frames(key) for store in self.stores])

    def parts(self, key: str) -> tuple[NDArray[np.float32], ...]:
        """Return the features of an item in each store, as views of the mapped shards.

        Raises:
            KeyError: a store has no features of the item.
            UserError: an item's shard is damaged, or the numbers of frames differ.
        """
        parts = tuple(store.features(key) for store in self.stores)
        self._checked(key, list(map(len, parts)))
        return parts

    def features(self, key: str) -> NDArray[np.float32]:
        """Return the features of an item, [T, D] or [T, cells, D]; raises like `parts`."""
        return join(self.parts(key))

    def _checked(self, key: str, frames: Sequence[int]) -> int:
        """Return the number of frames of an item, given that in each store."""
        for store, num in zip(self.stores, frames, strict=True):
            if num != frames[0]:
                raise UserError(
                    f"{store.path}: item {key!r} has {num} frames, in {self.stores[0].path} it has "
                    f"{frames[0]}; stores that are joined need the same number "
                    "(`intertitle precompute` with the same --frames, --fps or --every)"
                )
        return frames[0]


def join(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Concatenate features of the same frames, [..., D] each; a single part is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
