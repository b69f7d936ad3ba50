"""Sequence to sequence, video to text (Venugopalan et al., ICCV 2015).

One stack of two LSTMs reads the frames, then generates the sentence: the first layer reads frames,
the second reads the outputs of the first and the tokens; where a layer has no input, it reads
zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from intertitle.training.data.batch import Batch
from intertitle.training.models.captioners.inject import Captioner, Standardize
from intertitle.training.models.rnn import RNNState


@dataclass(frozen=True, slots=True)
class S2VTState:
    """The state of the captioner, for B rows.

    Attributes:
        watching: state of the layer that reads frames.
        writing: state of the layer that generates tokens.
    """

    watching: RNNState
    writing: RNNState

    def select(self, rows: Tensor) -> S2VTState:
        return S2VTState(self.watching.select(rows), self.writing.select(rows))


class S2VT(Captioner[S2VTState]):
    """A captioner that processes frames and tokens as one sequence.

    The frames are read as differences: the first frame is read unchanged, each following frame as
    its difference from the frame before it. The information is the same, but motion is no longer
    hidden by the static content, which a network would memorize on a small corpus; the paper adds
    optical flow for the same reason.

    In training the frames and tokens of each row are joined without a gap, [f_1 .. f_T, w_1 ..
    w_L], and padding comes last, so that rows of different lengths share one fused call.

    Args:
        sizes: arguments of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.scale_changes = Standardize(sizes["feature_dim"])
        self.project_changes = nn.Linear(sizes["feature_dim"], self.embedding_size)
        self.watching = self.recurrent(self.embedding_size)
        self.writing = self.recurrent(self.hidden_size + self.embedding_size)

    def fit_normalizer(self, examples: Sequence[Tensor]) -> None:
        super().fit_normalizer(examples)
        changes = torch.cat([frames.diff(dim=0) for frames in examples])
        if len(changes):
            self.scale_changes.fit(changes)

    def _encoder_inputs(self, features: Tensor) -> Tensor:
        """Project the differences of frames [B, T, D], [B, T, E]."""
        changes = self.project_changes(self.scale_changes(features.diff(dim=1)))
        return torch.cat([self.project_features(features[:, :1]), self.dropout(changes)], 1)

    def forward(self, batch: Batch) -> Tensor:
        frames = self._encoder_inputs(batch.features)
        words = self.words(batch.inputs)
        rows, num_words, size = words.shape
        num_steps = frames.shape[1] + num_words
        # A row's tokens come right after its own number of frames.
        step = torch.arange(num_steps, device=words.device)
        is_frame = (step < batch.frame_lengths[:, None])[..., None]
        frame_inputs = torch.where(is_frame, pad(frames, (0, 0, 0, num_words)), 0.0)
        watched, _ = self.watching(frame_inputs)
        positions = batch.frame_lengths[:, None] + torch.arange(num_words, device=words.device)
        word_inputs = words.new_zeros(rows, num_steps, size).scatter(
            1, positions[..., None].expand(-1, -1, size), words
        )
        outputs, _ = self.writing(torch.cat([self.dropout(watched), word_inputs], 2))
        hidden: Tensor = outputs.gather(1, positions[..., None].expand(-1, -1, outputs.shape[2]))
        return hidden

    def start(self, batch: Batch) -> S2VTState:
        frames = self._encoder_inputs(batch.features)
        watched, watching = self.watching.read(frames, batch.frame_lengths)
        no_words = frames.new_zeros(*frames.shape[:2], self.embedding_size)
        _, writing = self.writing.read(
            torch.cat([self.dropout(watched), no_words], 2), batch.frame_lengths
        )
        return S2VTState(watching, writing)

    def advance(self, state: S2VTState, token_ids: Tensor) -> tuple[Tensor, S2VTState]:
        words = self.words(token_ids)[:, None]
        no_frame = words.new_zeros(len(words), 1, self.embedding_size)
        watched, watching = self.watching(no_frame, state.watching)
        outputs, writing = self.writing(torch.cat([self.dropout(watched), words], 2), state.writing)
        return outputs[:, 0], S2VTState(watching, writing)
