"""Embedding, output layer, and dropout of the models."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from intertitle.training.data.batch import Batch
from intertitle.training.data.tokenizer import PAD_ID

# The parameters that have one row per token.
TOKEN_PARAMETERS = ("embedding.weight", "output.weight", "bias")


class TokenLayers(nn.Module):
    """The embedding of input tokens and the output layer that predicts tokens.

    Args:
        vocabulary: V.
        embedding_size: E.
        hidden_size: H, size of the hidden states that tokens are predicted from.
        dropout: dropout probability of the hidden states and of the embeddings.
        embedding_dropout: dropout probability of the embeddings, if it differs from `dropout`.
        tied: whether the output layer shares the weights of the embedding (Press & Wolf 2017)
            instead of having weights of its own.
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
        """Embed tokens, [...] -> [..., E]."""
        embedded: Tensor = self.embedding_dropout(self.embedding(token_ids))
        return embedded

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits of tokens, [..., H] -> [..., V]."""
        hidden = self.dropout(hidden)
        if self.output is not None:
            return linear(hidden, self.output.weight, self.bias)
        assert self.likeness is not None
        return linear(self.likeness(hidden), self.embedding.weight, self.bias)


def order_source(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the source tokens, [B, S], and the number of steps of each row, [B].

    A source without a token, which recurrent cells could not read, becomes one step of padding.
    """
    source = batch.source if batch.source.shape[1] else pad(batch.source, (0, 1), value=PAD_ID)
    return source, batch.source_lengths.clamp_min(1)


class Dropout(nn.Dropout):
    """Same as `nn.Dropout`, but on a CPU each 64 random bits decide on four elements.

    PyTorch draws a random number for each element, which takes a twentieth of a training step. The
    dropped share equals `p` to within 1 / 65,536.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0 or input.device.type != "cpu":
            return super().forward(input)
        num = input.numel()
        draws = torch.empty(-(-num // 4), dtype=torch.int64).random_(-(2**63), None)
        draws = draws.view(torch.int16)[:num].view(input.shape)
        mask = draws >= round(self.p * 2**16) - 2**15
        return input * mask.to(input.dtype).mul_(1 / (1 - self.p))
