"""A captioner that looks at places of an image, word by word.

Xu et al. 2015, "Show, Attend and Tell", with its soft attention over a grid of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.models.attention import Memory, MultiplicativeAttention, select_weights
from training.models.captioner import Captioner, Standardize
from training.models.cells import CellState
from training.models.dropout import Dropout
from training.models.generator import Attended


@dataclass(frozen=True, slots=True)
class AttendState:
    """The state of the stack, the cells that it looks at, and how it did so last, [N, S]."""

    reading: CellState
    cells: Memory
    weights: Tensor | None = None

    def select(self, rows: Tensor) -> AttendState:
        weights = select_weights(self.weights, rows)
        return AttendState(self.reading.select(rows), self.cells.select(rows), weights)


class AttendAndTell(Captioner[AttendState]):
    """A stack of recurrent layers with an attention after it.

    The stack reads the mean over the image as the first word (Vinyals et al. 2015), then the words.
    Each of its outputs asks for a mean over the image's cells, and the next word is told from both
    (the paper's deep output layer, without the word before). In the paper the stack also reads what
    was found for the word before, which would take a loop over the words. A video's frames are one
    image of all of their cells.

    Args:
        attention_size: that what is found is projected to.
        sizes: as of `Captioner`.
    """

    task = Task("grid", reads=False, tells="sentence")

    def __init__(self, *, attention_size: int, **sizes: Any) -> None:
        feature_dim, hidden_size = sizes["feature_dim"], sizes["hidden_size"]
        super().__init__(told_size=hidden_size + attention_size, **sizes)
        self.scale_cells = Standardize(feature_dim)
        self.channels = Dropout(sizes["feature_dropout"])
        self.stack = self.recurrent(self.embedding_size)
        self.attention = MultiplicativeAttention(hidden_size, feature_dim, feature_dim**-0.5)
        self.from_cells = nn.Linear(feature_dim, attention_size)

    def measure(self, examples: Sequence[Tensor]) -> None:
        super().measure([example.mean((0, 1))[None] for example in examples])
        self.scale_cells.measure(torch.cat([example.flatten(0, 1) for example in examples]))

    def _look(self, batch: Batch) -> tuple[Tensor, Memory]:
        """The first word, [B, 1, E], and all cells of each row's own frames."""
        num_cells = batch.num_frames * batch.features.shape[2]
        cells = batch.features.flatten(1, 2)
        mean = cells.sum(1, keepdim=True) / num_cells[:, None, None].to(cells.dtype)
        cells = self.scale_cells(cells)
        if self.training:
            # Some of an image's channels are hidden, in all of its cells at once.
            cells = cells * self.channels(cells.new_ones(len(cells), 1, cells.shape[2]))
        return self.look(mean), self.attention.remember(cells, num_cells)

    def _find(self, outputs: Tensor, cells: Memory) -> tuple[Tensor, Tensor]:
        """What words are told from, [B, L, H + attention_size], of the stack's [B, L, H], and how
        it looked, [B, L, S]."""
        found, weights = self.attention(outputs, cells)
        return torch.cat([outputs, self.from_cells(found)], 2), weights

    def hidden(self, batch: Batch) -> Tensor:
        first, cells = self._look(batch)
        outputs, _ = self.stack(torch.cat([first, self.words(batch.inputs)], 1))
        return self._find(outputs[:, 1:], cells)[0]

    def start(self, batch: Batch) -> AttendState:
        first, cells = self._look(batch)
        return AttendState(self.stack(first)[1], cells)

    def advance(self, state: AttendState, token_ids: Tensor) -> tuple[Tensor, AttendState]:
        outputs, reading = self.stack(self.words(token_ids)[:, None], state.reading)
        told, weights = self._find(outputs, state.cells)
        return told[:, 0], AttendState(reading, state.cells, weights[:, 0])

    def attended(self, state: AttendState) -> Attended | None:
        return state.cells.attended(state.weights)
