"""The features of a split's items, from which a batch is gathered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intertitle.training.data.arrays.joined_stores import JoinedStores

# Features that take less than this are copied into one array; larger ones stay in the mapped files.
MAX_COPIED_BYTES = 2**30
# Size of a float32.
_BYTES = 4


class FlatFeatures:
    """Features of items, by number.

    A pickled object holds the stores as `FeatureStore` is pickled, and no features.

    Args:
        stores: feature stores.
        keys: key of each item; a key may occur several times.

    Attributes:
        num_frames: number of frames of each item, int64, [N].
    """

    def __init__(self, stores: JoinedStores, keys: Sequence[str]) -> None:
        self._stores = stores
        slots: dict[str, int] = {}
        self._slots = np.array([slots.setdefault(key, len(slots)) for key in keys])
        self._keys = tuple(slots)
        self._frames = np.array([stores.num_frames(key) for key in self._keys])
        self._resident: Tensor | None = None
        self.num_frames: NDArray[np.int64] = self._frames[self._slots]

    def __getstate__(self) -> dict[str, object]:
        read = {"_views", "_flat"}
        return {k: v for k, v in vars(self).items() if k not in read} | {"_resident": None}

    @cached_property
    def _views(self) -> list[tuple[NDArray[np.float32], ...]]:
        """Views of the mapped files of each item, one a store."""
        return [self._stores.parts(key) for key in self._keys]

    @cached_property
    def _flat(self) -> NDArray[np.float32] | None:
        """All frames in one array, [frames, D] or [frames, cells, D]; None if they are large."""
        flat_shape = (int(self._frames.sum()), *self._stores.frame_shape)
        if _BYTES * math.prod(flat_shape) >= MAX_COPIED_BYTES:
            return None
        flat = np.empty(flat_shape, np.float32)
        for key, start, num in zip(self._keys, self._starts, self._frames, strict=True):
            np.concatenate(self._stores.parts(key), -1, out=flat[start : start + num])
        return flat

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        starts: NDArray[np.int64] = self._frames.cumsum() - self._frames
        return starts

    def place(self, device: torch.device, choice: Literal["auto", "host", "device"]) -> None:
        """Keep the features on a GPU, from where `padded` then returns them.

        Args:
            device: device of the model; a CPU changes nothing.
            choice: "auto" keeps features that take less than a quarter of the GPU's free memory.
        """
        if device.type != "cuda" or choice == "host":
            return
        frame_shape, num = self._stores.frame_shape, int(self._frames.sum())
        num_bytes = _BYTES * num * math.prod(frame_shape)
        if choice == "auto" and 4 * num_bytes >= torch.cuda.mem_get_info(device)[0]:
            return
        # The last frame is one of zeros, see `_gather`.
        self._resident = torch.zeros(num + 1, *frame_shape, device=device)
        for key, start, length in zip(self._keys, self._starts, self._frames, strict=True):
            self._resident[start : start + length] = torch.tensor(self._stores.features(key))

    def __getitem__(self, item: int) -> NDArray[np.float32]:
        """Return the features of one item, [T, D] or [T, cells, D]."""
        return self._stores.features(self._keys[self._slots[item]])

    def padded(self, items: NDArray[np.int64]) -> tuple[Tensor, NDArray[np.int64]]:
        """Return the features of B items, padded with zeros, and their numbers of frames.

        Returns:
            Features, [B, T, D] or [B, T, cells, D], on the device where they are kept, and the
            numbers, [B].
        """
        slots = self._slots[items]
        num_frames = self._frames[slots]
        longest = int(num_frames.max())
        places = self._starts[slots][:, None] + np.arange(longest)
        if self._resident is not None:
            return self._gather(self._resident, places, num_frames), num_frames
        if self._flat is not None:
            if longest == 1:
                return torch.from_numpy(self._flat.take(places, 0)), num_frames
            padded: Any = self._flat.take(places, 0, mode="clip")
        else:
            padded = np.empty((len(items), longest, *self._stores.frame_shape), np.float32)
            for row, slot in enumerate(slots):
                np.concatenate(self._views[slot], -1, out=padded[row, : num_frames[row]])
        padded[np.arange(longest) >= num_frames[:, None]] = 0
        return torch.from_numpy(padded), num_frames

    @staticmethod
    def _gather(flat: Tensor, places: NDArray[np.int64], num_frames: NDArray[np.int64]) -> Tensor:
        """Gather frames where they are kept; only their places are copied there."""
        num_rows, longest = places.shape
        # Beyond the frames of an item there is one of zeros.
        places = np.where(np.arange(longest) < num_frames[:, None], places, len(flat) - 1)
        index = torch.from_numpy(places.reshape(-1)).to(flat.device, non_blocking=True)
        return flat.index_select(0, index).view(num_rows, longest, *flat.shape[1:])
