"""Sequence to sequence, video to text (Venugopalan et al., ICCV 2015).

One stack of two LSTMs reads the frames, then writes the words: the first layer sees frames, the
second sees the first beside the words; each gets zeros where it has nothing to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from training.data.batch import Batch
from training.models.captioner import Captioner, Standardize
from training.models.cells import CellState


@dataclass(frozen=True, slots=True)
class S2VTState:
    """The states of the layer that sees frames and of the layer that writes."""

    watching: CellState
    writing: CellState

    def select(self, rows: Tensor) -> S2VTState:
        return S2VTState(self.watching.select(rows), self.writing.select(rows))


class S2VT(Captioner[S2VTState]):
    """The stack over frames and words as one sequence.

    Frames come as changes: the first as it is, each other as its difference from the one before. It
    is the same film, but what moves is no longer buried under what stands still, which a small
    corpus lets a network learn by heart instead; the paper adds optical flow to the same end.

    In training each row's frames and words stand without a gap, [f_1 .. f_T, w_1 .. w_L], and
    padding comes last, so that rows of different lengths share one fused call.

    Arguments as of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.scale_changes = Standardize(sizes["feature_dim"])
        self.project_changes = nn.Linear(sizes["feature_dim"], self.embedding_size)
        self.watching = self.recurrent(self.embedding_size)
        self.writing = self.recurrent(self.hidden_size + self.embedding_size)

    def measure(self, examples: Sequence[Tensor]) -> None:
        super().measure(examples)
        changes = torch.cat([frames.diff(dim=0) for frames in examples])
        if len(changes):
            self.scale_changes.measure(changes)

    def _watch(self, features: Tensor) -> Tensor:
        """Frames [B, T, D] as changes, projected, [B, T, E]."""
        changes = self.project_changes(self.scale_changes(features.diff(dim=1)))
        return torch.cat([self.look(features[:, :1]), self.dropout(changes)], 1)

    def hidden(self, batch: Batch) -> Tensor:
        frames = self._watch(batch.features)
        words = self.words(batch.inputs)
        rows, num_words, size = words.shape
        num_steps = frames.shape[1] + num_words
        # Frame steps are those before a row's own number of frames; its words come right after.
        step = torch.arange(num_steps, device=words.device)
        is_frame = (step < batch.num_frames[:, None])[..., None]
        seen = torch.where(is_frame, pad(frames, (0, 0, 0, num_words)), 0.0)
        watched, _ = self.watching(seen)
        places = batch.num_frames[:, None] + torch.arange(num_words, device=words.device)
        read = words.new_zeros(rows, num_steps, size).scatter(
            1, places[..., None].expand(-1, -1, size), words
        )
        outputs, _ = self.writing(torch.cat([self.dropout(watched), read], 2))
        told: Tensor = outputs.gather(1, places[..., None].expand(-1, -1, outputs.shape[2]))
        return told

    def start(self, batch: Batch) -> S2VTState:
        frames = self._watch(batch.features)
        watched, watching = self.watching.read(frames, batch.num_frames)
        no_words = frames.new_zeros(*frames.shape[:2], self.embedding_size)
        _, writing = self.writing.read(
            torch.cat([self.dropout(watched), no_words], 2), batch.num_frames
        )
        return S2VTState(watching, writing)

    def advance(self, state: S2VTState, token_ids: Tensor) -> tuple[Tensor, S2VTState]:
        words = self.words(token_ids)[:, None]
        no_frame = words.new_zeros(len(words), 1, self.embedding_size)
        watched, watching = self.watching(no_frame, state.watching)
        outputs, writing = self.writing(torch.cat([self.dropout(watched), words], 2), state.writing)
        return outputs[:, 0], S2VTState(watching, writing)
