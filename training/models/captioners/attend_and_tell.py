"""A captioner that attends to the cells of an image for each token.

Xu et al. 2015, "Show, Attend and Tell", with its soft attention over a grid of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.models.attention import Memory, MultiplicativeAttention, select_weights
from intertitle.training.models.base import AttentionWeights
from intertitle.training.models.captioners.inject import (
    Captioner,
    Standardize,
    standardize_cells,
)
from intertitle.training.models.layers import Dropout
from intertitle.training.models.rnn import RNNState


@dataclass(frozen=True, slots=True)
class AttendState:
    """The state of the captioner, for N rows.

    Attributes:
        reading: state of the recurrent layers.
        memory: cells of the image, or frames, that the model attends to.
        weights: attention weights of the last step, [N, S]; None before the first step.
    """

    reading: RNNState
    memory: Memory
    weights: Tensor | None = None

    def select(self, rows: Tensor) -> AttendState:
        weights = select_weights(self.weights, rows)
        return AttendState(self.reading.select(rows), self.memory.select(rows), weights)


class AttendAndTell(Captioner[AttendState]):
    """A stack of recurrent layers, followed by attention.

    The stack reads the mean over the image as the first input (Vinyals et al. 2015), then the
    tokens. Each of its outputs is the query of a weighted mean over the image's cells, and the next
    token is predicted from the output and that mean (the paper's deep output layer, without the
    previous token). In the paper the stack also reads the context of the previous token, which
    would need a loop over the tokens. The frames of a video are treated as one image with the cells
    of all frames.

    Args:
        attention_size: size that the context vectors are projected to.
        sizes: arguments of `Captioner`.
    """

    task = Task("grid", has_source=False, output="sentence")

    def __init__(self, *, attention_size: int, **sizes: Any) -> None:
        feature_dim, hidden_size = sizes["feature_dim"], sizes["hidden_size"]
        super().__init__(told_size=hidden_size + attention_size, **sizes)
        self.scale_cells = Standardize(feature_dim)
        self.channels = Dropout(sizes["feature_dropout"])
        self.stack = self.recurrent(self.embedding_size)
        self.attention = MultiplicativeAttention(hidden_size, feature_dim, feature_dim**-0.5)
        self.from_cells = nn.Linear(feature_dim, attention_size)

    def fit_normalizer(self, examples: Sequence[Tensor]) -> None:
        super().fit_normalizer([example.mean((0, 1))[None] for example in examples])
        self.scale_cells.fit(torch.cat([example.flatten(0, 1) for example in examples]))

    def _read_image(self, batch: Batch) -> tuple[Tensor, Memory]:
        """Return the first input, [B, 1, E], and the cells of each row's own frames."""
        cells, num_cells = standardize_cells(batch, self.scale_cells, self.channels)
        total = batch.features.flatten(1, 2).sum(1, keepdim=True)
        mean = total / num_cells[:, None, None].to(total.dtype)
        return self.project_features(mean), self.attention.build_memory(cells, num_cells)

    def _context(self, outputs: Tensor, cells: Memory) -> tuple[Tensor, Tensor]:
        """Attend to the cells with the outputs of the stack, [B, L, H].

        Returns:
            The hidden states that tokens are predicted from, [B, L, H + attention_size], and the
            attention weights, [B, L, S].
        """
        contexts, weights = self.attention(outputs, cells)
        return torch.cat([outputs, self.from_cells(contexts)], 2), weights

    def forward(self, batch: Batch) -> Tensor:
        first, cells = self._read_image(batch)
        outputs, _ = self.stack(torch.cat([first, self.words(batch.inputs)], 1))
        return self._context(outputs[:, 1:], cells)[0]

    def start(self, batch: Batch) -> AttendState:
        first, cells = self._read_image(batch)
        return AttendState(self.stack(first)[1], cells)

    def advance(self, state: AttendState, token_ids: Tensor) -> tuple[Tensor, AttendState]:
        outputs, reading = self.stack(self.words(token_ids)[:, None], state.reading)
        hidden, weights = self._context(outputs, state.memory)
        return hidden[:, 0], AttendState(reading, state.memory, weights[:, 0])

    def attention_weights(self, state: AttendState) -> AttentionWeights | None:
        return state.memory.attention_weights(state.weights)
