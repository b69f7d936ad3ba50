"""Batches: padding, lengths and the shift of teacher forcing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of a model and its targets; what a task does not use has size 0.

    Attributes:
        features: features of the frames, float32, [B, T, D], or [B, T, cells, D] for a grid; zero
            after a row's last frame.
        frame_lengths: number of frames of each row, int64, [B].
        source: tokens of the source sentence, int64, [B, S], PAD_ID after the last token.
        source_lengths: number of source tokens of each row, int64, [B].
        inputs: input tokens of the targets, int64, [B, L]: for sentences <bos> and the tokens,
            PAD_ID after the last token; for labels empty, [B, 0].
        targets: tokens and <eos> of sentences, otherwise labels, int64, [B, L]; in a
            sentence, `targets[:, t]` follows `inputs[:, t]`.
        target_lengths: number of targets of each row, int64, [B]; 0 for a row that does not count.
        weights: weight of each row's loss, float32, [B].
        target_places: places of the targets that count in `targets.flatten()`, ascending, int64,
            [N].
        source_padded: whether a source is shorter than S; known on the host.
    """

    features: Tensor
    frame_lengths: Tensor
    source: Tensor
    source_lengths: Tensor
    inputs: Tensor
    targets: Tensor
    target_lengths: Tensor
    weights: Tensor
    target_places: Tensor = field(init=False)
    source_padded: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.target_lengths.device.type != "cpu":
            # Lengths that the device has computed, as of sampled sentences: this waits for them.
            columns = torch.arange(self.targets.shape[1], device=self.targets.device)
            places = (columns < self.target_lengths[:, None]).flatten().nonzero()[:, 0]
            self._set(target_places=places, source_padded=True)
            return
        lengths, source_lengths = self.target_lengths.numpy(), self.source_lengths.numpy()
        is_target = np.arange(self.targets.shape[1]) < lengths[:, None]
        self._set(
            target_places=torch.from_numpy(np.flatnonzero(is_target)),
            # A source without a token is read as one step (`order_source`).
            source_padded=bool((source_lengths.clip(1) < self.source.shape[1]).any()),
        )

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.targets)

    def with_inputs(self, inputs: Tensor) -> Batch:
        """Return the same batch with other input tokens, [B, L]; places of targets are kept."""
        changed = self._map(lambda tensor: tensor)
        object.__setattr__(changed, "inputs", inputs)
        return changed

    def to(self, device: torch.device) -> Batch:
        """Return the same batch on a device; copies from pinned memory are not waited for."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the same batch in pinned memory, which is copied to a GPU in the background."""
        return self._map(lambda tensor: tensor if tensor.is_cuda else tensor.pin_memory())

    def _map(self, convert: Callable[[Tensor], Tensor]) -> Batch:
        converted = object.__new__(Batch)
        for name in Batch.__slots__:
            value = getattr(self, name)
            value = convert(value) if isinstance(value, Tensor) else value
            object.__setattr__(converted, name, value)
        return converted


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch before padding.

    Attributes:
        features: features, [T, D] or [T, cells, D], T >= 1; None if the task has no visual input.
        source: source tokens; empty if the task has no source.
        targets: tokens of a sentence, without <bos> and <eos>, otherwise labels; empty if a
            model is to predict them.
    """

    features: NDArray[np.float32] | None = None
    source: Sequence[int] = ()
    targets: Sequence[int] = ()


def make_batch(rows: Sequence[Row], *, sentences: bool) -> Batch:
    """Pad rows to the same size and combine them to a batch.

    Args:
        rows: rows that either all have features or all have none.
        sentences: whether targets are sentences, which are predicted token by token and end with
            <eos>, or labels.
    """
    features, num_frames = _pad_features([row.features for row in rows])
    source, num_source = _pad([row.source for row in rows])
    if sentences:
        inputs, num_targets = _pad([(BOS_ID, *row.targets) for row in rows])
        targets, _ = _pad([(*row.targets, EOS_ID) for row in rows])
    else:
        inputs = np.zeros((len(rows), 0), np.int64)
        targets, num_targets = _pad([row.targets for row in rows])
    weights = np.ones(len(rows), np.float32)
    arrays = (features, num_frames, source, num_source, inputs, targets, num_targets, weights)
    return Batch(*map(torch.from_numpy, arrays))


def gather_batch(
    features: tuple[Tensor, NDArray[np.int64]] | None,
    source: tuple[NDArray[np.int64], NDArray[np.int64]],
    targets: tuple[NDArray[np.int64], NDArray[np.int64]],
    weights: NDArray[np.float32],
    *,
    sentences: bool,
) -> Batch:
    """Combine padded arrays to the same batch as `make_batch` makes of its rows.

    Args:
        features: padded features and number of frames of each row; None without visual input.
        source: padded source tokens, [B, S], and number of tokens of each row, [B].
        targets: the same of the targets, without <bos> and <eos>.
        weights: weight of each row's loss, [B].
        sentences: see `make_batch`.
    """
    rows = len(weights)
    tokens, num_targets = targets
    inputs = np.zeros((rows, 0), np.int64)
    if sentences:
        edge = np.full((rows, 1), BOS_ID)
        inputs = np.concatenate([edge, tokens], 1)
        edge[:] = PAD_ID
        tokens = np.concatenate([tokens, edge], 1)
        tokens[np.arange(rows), num_targets] = EOS_ID
        num_targets = num_targets + 1
    frames, num_frames = features or (torch.zeros(rows, 0, 0), np.zeros(rows, np.int64))
    arrays = (num_frames, *source, inputs, tokens, num_targets, weights)
    return Batch(frames, *map(torch.from_numpy, arrays))


def make_stream_batch(inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> Batch:
    """Combine windows of running text to a batch.

    Args:
        inputs: input tokens, [B, L].
        targets: target tokens, [B, L]; PAD_ID after the end of the text.
    """
    rows = len(targets)
    no_source = np.zeros((rows, 0), np.int64)
    zero_lengths = np.zeros(rows, np.int64)
    num_targets = (targets != PAD_ID).sum(1)
    features, weights = np.zeros((rows, 0, 0), np.float32), np.ones(rows, np.float32)
    arrays = (
        features,
        zero_lengths,
        no_source,
        zero_lengths,
        inputs,
        targets,
        num_targets,
        weights,
    )
    return Batch(*map(torch.from_numpy, arrays))


def _pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pad rows to the same size and return them with their lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), lengths.max(initial=0)), PAD_ID, np.int64)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded, lengths


def _pad_features(
    rows: Sequence[NDArray[np.float32] | None],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pad features to the same number of frames and return them with their lengths."""
    arrays = [row for row in rows if row is not None]
    if not arrays:
        return np.zeros((len(rows), 0, 0), np.float32), np.zeros(len(rows), np.int64)
    num_frames = np.array([len(row) for row in arrays], np.int64)
    # Each element is written once: zeroing the whole array first would take as long again.
    padded = np.empty((len(arrays), int(num_frames.max()), *arrays[0].shape[1:]), np.float32)
    for index, row in enumerate(arrays):
        padded[index, : len(row)] = row
        padded[index, len(row) :] = 0
    return padded, num_frames
