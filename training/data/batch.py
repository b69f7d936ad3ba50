"""A batch: padding, lengths and the teacher-forcing shift, in this one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model reads, and what it should tell. What a task does not have, has size 0.

    Attributes:
        features: of the frames, float32, [B, T, D], or [B, T, cells, D] of a grid; zero after a
            row's last frame.
        num_frames: of each row, int64, [B].
        source: tokens of the sentence that is read, int64, [B, S], PAD_ID after the last.
        num_source: of each row, int64, [B].
        inputs: what is known before each target, int64, [B, L]: of a sentence <bos> and the words,
            PAD_ID after the last; of labels nothing, [B, 0].
        targets: of a sentence the words and <eos>, else the labels, int64, [B, L]; in a sentence
            `targets[:, t]` follows `inputs[:, t]`.
        num_targets: of each row, int64, [B]; 0 for a row that does not count.
        weights: of each row's loss, float32, [B].
    """

    features: Tensor
    num_frames: Tensor
    source: Tensor
    num_source: Tensor
    inputs: Tensor
    targets: Tensor
    num_targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def counts(self) -> Tensor:
        """Which targets count, [B, L]."""
        place = torch.arange(self.targets.shape[1], device=self.targets.device)
        return place < self.num_targets[:, None]

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        tensors = (getattr(self, field.name) for field in fields(self))
        return Batch(*(tensor.to(device, non_blocking=True) for tensor in tensors))


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a batch before padding.

    Attributes:
        features: [T, D] or [T, cells, D], T >= 1; None if the task sees nothing.
        source: tokens, or none.
        targets: of a sentence the words, without <bos> and <eos>; else the labels. Empty where a
            model is to find them.
    """

    features: NDArray[np.float32] | None = None
    source: Sequence[int] = ()
    targets: Sequence[int] = ()


def make_batch(rows: Sequence[Row], *, sentences: bool) -> Batch:
    """Pad rows to one size.

    Args:
        rows: all with features, or all without.
        sentences: whether targets are sentences, which are told word by word and end, or labels.
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


def make_stream_batch(inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> Batch:
    """Portions of running text, [B, L]; PAD_ID in `targets` stands after a text's end."""
    rows = len(targets)
    nothing = np.zeros((rows, 0), np.int64)
    none = np.zeros(rows, np.int64)
    num_targets = (targets != PAD_ID).sum(1)
    features, weights = np.zeros((rows, 0, 0), np.float32), np.ones(rows, np.float32)
    arrays = (features, none, nothing, none, inputs, targets, num_targets, weights)
    return Batch(*map(torch.from_numpy, arrays))


def _pad(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of one size, and their lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.full((len(rows), lengths.max(initial=0)), PAD_ID, np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return padded, lengths


def _pad_features(
    rows: Sequence[NDArray[np.float32] | None],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """As `_pad`, of features."""
    some = [row for row in rows if row is not None]
    if not some:
        return np.zeros((len(rows), 0, 0), np.float32), np.zeros(len(rows), np.int64)
    num_frames = np.array([len(row) for row in some], np.int64)
    # Every frame is written once, where it belongs: clearing a grid first would take as long.
    padded = np.empty((len(some), int(num_frames.max()), *some[0].shape[1:]), np.float32)
    for at, row in enumerate(some):
        padded[at, : len(row)] = row
        padded[at, len(row) :] = 0
    return padded, num_frames
