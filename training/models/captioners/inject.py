"""The base class of captioners, and two captioners that read one image vector before the first
token.

The vector is the feature of a photograph, or the mean over the frames of a video. The captioners
that read it at every token are in `merge`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from intertitle.training.config.models import CellKind
from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.models.base import Generator, S
from intertitle.training.models.layers import Dropout, TokenLayers
from intertitle.training.models.rnn import RNNStack, RNNState


class Standardize(nn.Module):
    """Standardize features: subtract the mean and divide by the standard deviation.

    Both are measured on the training split.

    Attributes:
        mean: mean of each feature, [D].
        deviation: standard deviation of each feature, [D].
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_dim))
        self.register_buffer("deviation", torch.ones(feature_dim))

    def fit(self, features: Tensor) -> None:
        """Measure mean and standard deviation on some features, [N, D]."""
        self.mean.copy_(features.mean(0))
        # A feature that hardly varies carries no information and must not be scaled up.
        self.deviation.copy_(features.std(0, correction=0).clamp_min(1e-3))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


class Captioner(Generator[S]):
    """Base class of captioners: frames are standardized and projected, output weights are tied.

    Args:
        feature_dim: D.
        vocabulary: V.
        cell: kind of the recurrent cells.
        num_layers: number of recurrent layers.
        embedding_size: E, size of a token's embedding and of a projected frame.
        hidden_size: H.
        dropout: dropout probability of both embeddings, between the layers and of the output.
        feature_dropout: dropout probability of the standardized features.
        told_size: size of the hidden states that tokens are predicted from, if it is not
            `hidden_size`.
    """

    task = Task("pooled", has_source=False, output="sentence")

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
        self.words = TokenLayers(vocabulary, embedding_size, told_size or hidden_size, dropout)
        self.dropout = Dropout(dropout)
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self._stack: dict[str, Any] = {"cell": cell, "num_layers": num_layers, "dropout": dropout}

    def recurrent(self, input_size: int) -> RNNStack:
        """Build a stack of the model's recurrent cells."""
        return RNNStack(input_size=input_size, hidden_size=self.hidden_size, **self._stack)

    def fit_normalizer(self, examples: Sequence[Tensor]) -> None:
        self.standardize.fit(torch.cat(list(examples)).flatten(0, -2))

    def project_features(self, features: Tensor) -> Tensor:
        """Project features, [..., D] -> [..., E]."""
        projected: Tensor = self.dropout(self.projection(self.standardize(features)))
        return projected


def mean_over_frames(batch: Batch) -> Tensor:
    """Return the average over each row's own frames, [B, D]."""
    return batch.features.sum(1) / batch.frame_lengths[:, None].to(batch.features.dtype)


def standardize_cells(
    batch: Batch, standardize: Standardize, channels: Dropout
) -> tuple[Tensor, Tensor]:
    """Standardize the cells of all frames of each row.

    Args:
        batch: batch with features of a grid.
        standardize: standardization of a cell.
        channels: dropout of channels; it hides a channel in all cells of a row at once.

    Returns:
        The cells, [B, S, D], and the number of those that are not padding, [B].
    """
    cells = standardize(batch.features.flatten(1, 2))
    if channels.training:
        cells = cells * channels(cells.new_ones(len(cells), 1, cells.shape[2]))
    return cells, batch.frame_lengths * batch.features.shape[2]


class ShowAndTell(Captioner[RNNState]):
    """A captioner that reads the image as the first token (Vinyals et al. 2015, "Show and Tell",
    equations 10-12).

    Args:
        sizes: arguments of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.stack = self.recurrent(self.embedding_size)

    def _first_input(self, batch: Batch) -> Tensor:
        """Return the first input, [B, 1, E]."""
        return self.project_features(mean_over_frames(batch))[:, None]

    def forward(self, batch: Batch) -> Tensor:
        words = self.words(batch.inputs)
        outputs, _ = self.stack(torch.cat([self._first_input(batch), words], 1))
        hidden: Tensor = outputs[:, 1:]
        return hidden

    def start(self, batch: Batch) -> RNNState:
        _, state = self.stack(self._first_input(batch))
        return state  # type: ignore[no-any-return]

    def advance(self, state: RNNState, token_ids: Tensor) -> tuple[Tensor, RNNState]:
        words = self.words(token_ids)[:, None]
        outputs, state = self.stack(words, state)
        return outputs[:, 0], state


@dataclass(frozen=True, slots=True)
class NeuralTalkState:
    """The state of the captioner, for B rows.

    Attributes:
        bias: vector that is added to the next token's embedding, [B, E]; zero after the first
            token.
        cells: state of the recurrent layers.
    """

    bias: Tensor
    cells: RNNState

    def select(self, rows: Tensor) -> NeuralTalkState:
        return NeuralTalkState(self.bias.index_select(0, rows), self.cells.select(rows))


class NeuralTalk(Captioner[NeuralTalkState]):
    """A captioner that adds the image to the first token only (Karpathy & Fei-Fei 2015, "Deep
    Visual-Semantic Alignments for Generating Image Descriptions", equations 13-15).

    The paper adds the image to the cell's input; here it is added to the token's embedding, of
    which that input is a linear function. The image and <bos> are therefore read in one step, where
    `ShowAndTell` takes two.

    Args:
        sizes: arguments of `Captioner`.
    """

    def __init__(self, **sizes: Any) -> None:
        super().__init__(**sizes)
        self.stack = self.recurrent(self.embedding_size)

    def forward(self, batch: Batch) -> Tensor:
        words = self.words(batch.inputs)
        bias = self.project_features(mean_over_frames(batch))[:, None]
        outputs: Tensor = self.stack(torch.cat([words[:, :1] + bias, words[:, 1:]], 1))[0]
        return outputs

    def start(self, batch: Batch) -> NeuralTalkState:
        bias = self.project_features(mean_over_frames(batch))
        return NeuralTalkState(bias, self.stack.zero_state(len(batch), bias))

    def advance(self, state: NeuralTalkState, token_ids: Tensor) -> tuple[Tensor, NeuralTalkState]:
        words = self.words(token_ids) + state.bias
        outputs, cells = self.stack(words[:, None], state.cells)
        return outputs[:, 0], NeuralTalkState(torch.zeros_like(state.bias), cells)
