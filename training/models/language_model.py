"""A language model of running text, built of recurrent cells.

Mikolov et al. 2010, "Recurrent neural network based language model"; with characters, Karpathy
2015, "The Unreasonable Effectiveness of Recurrent Neural Networks"; with words and dropout on all
but the recurrent connections, Zaremba et al. 2014, "Recurrent Neural Network Regularization".
"""

from __future__ import annotations

from torch import Tensor

from intertitle.training.config.models import CellKind
from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.models.base import Generator
from intertitle.training.models.layers import TokenLayers
from intertitle.training.models.rnn import RNNStack, RNNState, initialize


class LanguageModel(Generator[RNNState]):
    """A model that predicts each token from the tokens before it: embedding, RNN, softmax.

    Args:
        vocabulary: V.
        cell: kind of the recurrent cells.
        num_layers: number of recurrent layers.
        embedding_size: E.
        hidden_size: H.
        dropout: dropout probability between layers and of the output.
        embedding_dropout: dropout probability of the embeddings.
        tied: whether the output layer shares the weights of the embedding (Press & Wolf 2017).
        initial_scale: bound of the uniform distribution that the weights are initialized from, in
            [-initial_scale, initial_scale]; None initializes the recurrent weights orthogonally.
    """

    task = Task("nothing", has_source=False, output="stream")

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
        self.words = TokenLayers(
            vocabulary,
            embedding_size,
            hidden_size,
            dropout,
            embedding_dropout=embedding_dropout,
            tied=tied,
        )
        self.stack = RNNStack(cell, embedding_size, hidden_size, num_layers, dropout)
        if initial_scale is not None:
            initialize(self, initial_scale)

    def forward_with_state(self, batch: Batch, carried: RNNState | None) -> tuple[Tensor, RNNState]:
        outputs, state = self.stack(self.words(batch.inputs), carried)
        return outputs, state

    def forward(self, batch: Batch) -> Tensor:
        return self.forward_with_state(batch, None)[0]

    def start(self, batch: Batch) -> RNNState:
        return self.stack.zero_state(len(batch), self.words.bias)

    def advance(self, state: RNNState, token_ids: Tensor) -> tuple[Tensor, RNNState]:
        outputs, state = self.stack(self.words(token_ids)[:, None], state)
        return outputs[:, 0], state
