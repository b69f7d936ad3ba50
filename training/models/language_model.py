"""Running text, each token from those before it, by a stack of recurrent cells.

Mikolov et al. 2010, "Recurrent neural network based language model"; with characters, Karpathy
2015, "The Unreasonable Effectiveness of Recurrent Neural Networks"; with words and dropout on all
but the recurrent connections, Zaremba et al. 2014, "Recurrent Neural Network Regularization".
"""

from __future__ import annotations

from torch import Tensor

from training.data.batch import Batch
from training.data.task import Task
from training.models.cells import CellKind, CellState, Recurrent, initialize
from training.models.generator import Generator
from training.models.words import Words


class LanguageModel(Generator[CellState]):
    """Embedding, stack, softmax.

    Args:
        vocabulary: V.
        cell: of the stack.
        num_layers: of it.
        embedding_size: E.
        hidden_size: H.
        dropout: between layers and on the output.
        embedding_dropout: on the embeddings.
        tied: a token is told by its likeness to the tokens' embeddings (Press & Wolf 2017).
        initial_scale: weights begin uniform in +-this; None: orthogonal.
    """

    task = Task("nothing", reads=False, tells="stream")

    def __init__(
        self,
        vocabulary: int,
        *,
        cell: CellKind,
        num_layers: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        embedding_dropout: float,
        tied: bool,
        initial_scale: float | None,
    ) -> None:
        super().__init__()
        self.words = Words(
            vocabulary,
            embedding_size,
            hidden_size,
            dropout,
            embedding_dropout=embedding_dropout,
            tied=tied,
        )
        self.stack = Recurrent(cell, embedding_size, hidden_size, num_layers, dropout)
        if initial_scale is not None:
            initialize(self, initial_scale)

    def read_on(self, batch: Batch, carried: CellState | None) -> tuple[Tensor, CellState]:
        outputs, state = self.stack(self.words(batch.inputs), carried)
        return outputs, state

    def hidden(self, batch: Batch) -> Tensor:
        return self.read_on(batch, None)[0]

    def start(self, batch: Batch) -> CellState:
        return self.stack.zero_state(len(batch), self.words.bias)

    def advance(self, state: CellState, token_ids: Tensor) -> tuple[Tensor, CellState]:
        outputs, state = self.stack(self.words(token_ids)[:, None], state)
        return outputs[:, 0], state
