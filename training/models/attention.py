"""Attention over a memory, such as the tokens of a source sentence or the cells of an image.

All queries of a sequence are computed in one call. They must therefore be known beforehand: they
are the outputs of a recurrent layer, and the context vectors go to the layer above it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from intertitle.training.models.base import AttentionWeights


@dataclass(frozen=True, slots=True)
class Memory:
    """The memories that N rows attend to.

    There are R memories, each used by N / R consecutive rows.

    Attributes:
        values: vectors that are averaged, [R, S, M].
        keys: vectors that queries are compared with, [R, S, K].
        padding_mask: True where a position is padding, bool, [R, S]; each memory has at least one
            position that is not padding.
        batch_index: index of each row's memory, int64, [N].
    """

    values: Tensor
    keys: Tensor
    padding_mask: Tensor
    batch_index: Tensor

    def select(self, rows: Tensor) -> Memory:
        """Return the memories of the given rows, in that order; `rows` are indices into N, [n]."""
        owners = self.batch_index.index_select(0, rows)
        # Beam search mostly reorders the hypotheses of one example: nothing to copy.
        if torch.equal(owners, self.batch_index):
            return self
        # The hypotheses of one example share a memory; in any other order each row has its own.
        distinct, counts = owners.unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
        if not torch.equal(counts, counts[:1].expand_as(counts)):
            distinct, counts = owners, torch.ones_like(owners)
        values = self.values.index_select(0, distinct)
        keys = values if self.keys is self.values else self.keys.index_select(0, distinct)
        owners = torch.arange(len(distinct), device=rows.device).repeat_interleave(counts)
        return Memory(values, keys, self.padding_mask.index_select(0, distinct), owners)

    def attention_weights(self, weights: Tensor | None) -> AttentionWeights | None:
        """Combine the weights of one query per row, [N, S], with the padding mask of each row."""
        if weights is None:
            return None
        return AttentionWeights(weights, self.padding_mask.index_select(0, self.batch_index))


def select_weights(weights: Tensor | None, rows: Tensor) -> Tensor | None:
    """Return the attention weights of the given rows, or None if there are none yet."""
    return None if weights is None else weights.index_select(0, rows)


class Attention(nn.Module, ABC):
    """Weighted mean over a memory for each query; the weights are the softmax of scores."""

    def build_memory(self, values: Tensor, lengths: Tensor) -> Memory:
        """Prepare the memory that queries attend to, once for all queries.

        Args:
            values: vectors to attend to, [B, S, M].
            lengths: number of valid positions of each row, [B], each from 1 to S.
        """
        is_padding = torch.arange(values.shape[1], device=lengths.device) >= lengths[:, None]
        owners = torch.arange(len(values), device=lengths.device)
        return Memory(values, self._keys(values), is_padding, owners)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Attend to the memory.

        Args:
            queries: queries of each row, [B, L, Q].
            memory: memory of B rows; rows that share a memory are computed together.

        Returns:
            The context vector of each query, [B, L, M], and the weights, [B, L, S], 0 on padding.
        """
        grouped = queries.reshape(len(memory.values), -1, queries.shape[2])
        scores = self._scores(grouped, memory.keys)
        weights = scores.masked_fill(memory.padding_mask[:, None], -torch.inf).softmax(-1)
        contexts = torch.bmm(weights, memory.values)
        shape = queries.shape[:2]
        return contexts.view(*shape, -1), weights.view(*shape, -1)

    @abstractmethod
    def _keys(self, values: Tensor) -> Tensor:
        """Compute the keys, [B, S, M] -> [B, S, K]."""

    @abstractmethod
    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Compute the scores, [B, L, Q] and [B, S, K] -> [B, L, S]."""


class MultiplicativeAttention(Attention):
    """Attention with the scores q W k, the "general" scores of Luong et al. 2015, "Effective
    Approaches to Attention-based Neural Machine Translation", section 3.1.

    The queries are projected to the size of the memory, and the memory is compared unchanged. This
    is cheaper where the memory has many more positions than there are queries, as with the cells of
    an image.

    Args:
        query_size: Q.
        memory_size: M.
        scale: factor of the scores. A memory of variance 1 needs M ** -0.5; otherwise the initial
            scores are so large that the softmax of each query selects one position (Vaswani et al.
            2017). The outputs of recurrent cells are small: with this factor their initial scores
            are almost equal, and with some seeds the attention is never learned.
    """

    def __init__(self, query_size: int, memory_size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.to_memory = nn.Linear(query_size, memory_size, bias=False)
        self.scale = scale

    def _keys(self, values: Tensor) -> Tensor:
        return values

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(self.to_memory(queries) * self.scale, keys.transpose(1, 2))


class AdditiveAttention(Attention):
    """Attention with the scores v tanh(W q + U k) of Bahdanau et al. 2015, "Neural Machine
    Translation by Jointly Learning to Align and Translate", appendix A.1.2.

    It holds B x L x S x K numbers in memory at once.

    Args:
        query_size: Q.
        memory_size: M.
        size: K, size of the hidden layer that computes the scores.
    """

    def __init__(self, query_size: int, memory_size: int, size: int) -> None:
        super().__init__()
        self.of_query = nn.Linear(query_size, size)
        self.of_memory = nn.Linear(memory_size, size, bias=False)
        self.to_score = nn.Linear(size, 1, bias=False)

    def _keys(self, values: Tensor) -> Tensor:
        keys: Tensor = self.of_memory(values)
        return keys

    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        hidden = torch.tanh(self.of_query(queries)[:, :, None] + keys[:, None])
        scores: Tensor = self.to_score(hidden).squeeze(-1)
        return scores
