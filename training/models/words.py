"""Words in and words out: the two ends of every model that writes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from training.data.batch import Batch
from training.data.tokenizer import PAD_ID
from training.models.dropout import Dropout

# The parameters that have a row for each word.
BY_WORD = ("embedding.weight", "output.weight", "bias")


class Words(nn.Module):
    """The embedding that words are read by, and the layer that they are told by.

    Args:
        vocabulary: V.
        embedding_size: E.
        hidden_size: H, of what words are told from.
        dropout: on what words are told from, and on the embeddings.
        embedding_dropout: on the embeddings, where it is another.
        tied: a word is told by its likeness to the words' embeddings (Press & Wolf 2017), instead
            of by weights of its own.
    """

    def __init__(
        self,
        vocabulary: int,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        *,
        embedding_dropout: float | None = None,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding_size, padding_idx=PAD_ID)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.likeness = nn.Linear(hidden_size, embedding_size) if tied else None
        self.output = None if tied else nn.Linear(hidden_size, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.dropout = Dropout(dropout)
        self.embedding_dropout = Dropout(
            dropout if embedding_dropout is None else embedding_dropout
        )

    def forward(self, token_ids: Tensor) -> Tensor:
        """Read words, [...] -> [..., E]."""
        embedded: Tensor = self.embedding_dropout(self.embedding(token_ids))
        return embedded

    def logits(self, hidden: Tensor) -> Tensor:
        """Tell words, [..., H] -> [..., V]."""
        hidden = self.dropout(hidden)
        if self.output is not None:
            return linear(hidden, self.output.weight, self.bias)
        assert self.likeness is not None
        return linear(self.likeness(hidden), self.embedding.weight, self.bias)


def source_steps(batch: Batch) -> tuple[Tensor, Tensor]:
    """What is read, [B, S], and the steps of each row, [B]; a source without a token, which
    recurrent cells could not read, is one step of padding."""
    source = batch.source if batch.source.shape[1] else pad(batch.source, (0, 1), value=PAD_ID)
    return source, batch.num_source.clamp_min(1)
