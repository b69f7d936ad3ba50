"""A batch: padding, lengths and the teacher-forcing shift, in this one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model reads, and what it should say.

    Attributes:
        features: of the frames, float32, [B, T, D], zero after a row's last frame.
        num_frames: of each row, int64, [B].
        inputs: <bos> and the words, int64, [B, L], PAD_ID after the last.
        targets: the words and <eos>, int64, [B, L]; `targets[:, t]` follows `inputs[:, t]`.
        num_targets: words and <eos> of each row, int64, [B]; 0 for a row that does not count.
    """

    features: Tensor
    num_frames: Tensor
    inputs: Tensor
    targets: Tensor
    num_targets: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        return Batch(
            *(
                tensor.to(device, non_blocking=True)
                for tensor in (
                    self.features,
                    self.num_frames,
                    self.inputs,
                    self.targets,
                    self.num_targets,
                )
            )
        )


def make_batch(
    features: Sequence[NDArray[np.float32]], sentences: Sequence[Sequence[int]]
) -> Batch:
    """Pad rows to one size.

    Args:
        features: of each row, [T, D], T >= 1; T may differ.
        sentences: numbers of each row's words, without <bos> and <eos>; empty where a model is to
            find the sentence itself.
    """
    num_frames = np.array([len(f) for f in features])
    padded = np.zeros((len(features), num_frames.max(), features[0].shape[1]), np.float32)
    for row, feature in enumerate(features):
        padded[row, : len(feature)] = feature
    num_targets = np.array([len(s) + 1 for s in sentences])
    inputs = np.full((len(sentences), num_targets.max()), PAD_ID)
    targets = np.full_like(inputs, PAD_ID)
    for row, sentence in enumerate(sentences):
        inputs[row, : len(sentence) + 1] = (BOS_ID, *sentence)
        targets[row, : len(sentence) + 1] = (*sentence, EOS_ID)
    return Batch(*map(torch.from_numpy, (padded, num_frames, inputs, targets, num_targets)))
