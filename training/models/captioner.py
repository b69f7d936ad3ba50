"""What captioners share, and the two that see one vector once, before their first word.

The vector is a photograph's feature, or the mean over a video's frames. Those that see it at every
word are in `every_word`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.models.cells import CellKind, CellState, Recurrent
from training.models.dropout import Dropout
from training.models.generator import Generator, S
from training.models.words import Words


class Standardize(nn.Module):
    """Features minus their mean, by their deviation, as measured on the training split."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("deviation", torch.ones(feature_dim))

    def measure(self, features: Tensor) -> None:
        """Take mean and deviation from some features, [N, D]."""
        self.mean.copy_(features.mean(0))
        # A feature that never changes says nothing: it must not be blown up.
        self.deviation.copy_(features.std(0, correction=0).clamp_min(1e-3))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


class Captioner(Generator[S]):
    """What captioners share: frames are standardised and projected, words tied.

    Args:
        feature_dim: D.
        vocabulary: V.
        cell: of the recurrent layers.
        num_layers: of them.
        embedding_size: E, of a word, and of a projected frame.
        hidden_size: H.
        dropout: on both embeddings, between the layers and on the output.
        feature_dropout: on the features themselves.
        told_size: of what words are told from, if that is not one recurrent layer's output.
    """

    task = Task("pooled", reads=False, tells="sentence")

    def __init__(
        self,
        feature_dim: int,
        vocabulary: int,
        *,
        cell: CellKind,
        num_layers: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        feature_dropout: float,
        told_size: int | None = None,
    ) -> None:
        super().__init__()
        self.standardize = Standardize(feature_dim)
        self.projection = nn.Sequential(
            Dropout(feature_dropout), nn.Linear(feature_dim, embedding_size)
        )
        self.words = Words(vocabulary, embedding_size, told_size or hidden_size, dropout)
        self.dropout = Dropout(dropout)
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self._stack: dict[str, Any] = {"cell": cell, "num_layers": num_layers, "dropout": dropout}

    def recurrent(self, input_size: int) -> Recurrent:
        """A stack of the model's cells."""
        return Recurrent(input_size=input_size, hidden_size=self.hidden_size, **self._stack)

    def measure(self, examples: Sequence[Tensor]) -> None:
        self.standardize.measure(torch.cat(list(examples)).flatten(0, -2))

    def look(self, features: Tensor) -> Tensor:
        """Project features, [..., D] -> [..., E]."""
        seen: Tensor = self.dropout(self.projection(self.standardize(features)))
        return seen


def mean_over_frames(batch: Batch) -> Tensor:
    """The average of each row's own frames, [B, D]."""
    return batch.features.sum(1) / batch.num_frames[:, None].to(batch.features.dtype)


class ShowAndTell(Captioner[CellState]):
    """The image as the first word (Vinyals et al. 2015, "Show and Tell", equations 10-12).

    Arguments as of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.stack = self.recurrent(self.embedding_size)

    def _image(self, batch: Batch) -> Tensor:
        """The first word, [B, 1, E]."""
        return self.look(mean_over_frames(batch))[:, None]

    def hidden(self, batch: Batch) -> Tensor:
        words = self.words(batch.inputs)
        outputs, _ = self.stack(torch.cat([self._image(batch), words], 1))
        told: Tensor = outputs[:, 1:]
        return told

    def start(self, batch: Batch) -> CellState:
        _, state = self.stack(self._image(batch))
        return state  # type: ignore[no-any-return]

    def advance(self, state: CellState, token_ids: Tensor) -> tuple[Tensor, CellState]:
        words = self.words(token_ids)[:, None]
        outputs, state = self.stack(words, state)
        return outputs[:, 0], state


@dataclass(frozen=True, slots=True)
class NeuralTalkState:
    """The state of the stack, and what is added to the next word, [B, E]: nothing after the first
    one."""

    bias: Tensor
    cells: CellState

    def select(self, rows: Tensor) -> NeuralTalkState:
        return NeuralTalkState(self.bias.index_select(0, rows), self.cells.select(rows))


class NeuralTalk(Captioner[NeuralTalkState]):
    """The image as a bias at the first word alone (Karpathy & Fei-Fei 2015, "Deep Visual-Semantic
    Alignments for Generating Image Descriptions", equations 13-15).

    The paper adds the image to the cell's input; here it is added to the word, which that input is
    a linear function of. So the image and <bos> are read in one step, where `ShowAndTell` takes
    two.

    Arguments as of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.stack = self.recurrent(self.embedding_size)

    def hidden(self, batch: Batch) -> Tensor:
        words = self.words(batch.inputs)
        bias = self.look(mean_over_frames(batch))[:, None]
        outputs: Tensor = self.stack(torch.cat([words[:, :1] + bias, words[:, 1:]], 1))[0]
        return outputs

    def start(self, batch: Batch) -> NeuralTalkState:
        bias = self.look(mean_over_frames(batch))
        return NeuralTalkState(bias, self.stack.zero_state(len(batch), bias))

    def advance(self, state: NeuralTalkState, token_ids: Tensor) -> tuple[Tensor, NeuralTalkState]:
        words = self.words(token_ids) + state.bias
        outputs, cells = self.stack(words[:, None], state.cells)
        return outputs[:, 0], NeuralTalkState(torch.zeros_like(state.bias), cells)
