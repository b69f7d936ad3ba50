"""Attention: looking back at a memory, such as the words of a source or the cells of an image.

All queries of a sequence are answered in one call, which needs them to be there beforehand: they
are the outputs of a recurrent layer, and what they find is given to the layer above it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.models.generator import Attended


@dataclass(frozen=True, slots=True)
class Memory:
    """What N rows look back at.

    Attributes:
        values: [N, S, M].
        keys: what queries are compared with, [N, S, K].
        beyond: whether a place is padding, [N, S]; at least one of each row is not.
        owners: numbers, [N]; rows with the same one have the same memory.
    """

    values: Tensor
    keys: Tensor
    beyond: Tensor
    owners: Tensor

    def select(self, rows: Tensor) -> Memory:
        """The memories of some rows, in a new order; [n] of indices into N."""
        owners = self.owners.index_select(0, rows)
        # Beam search mostly reorders the sentences about one thing: nothing to copy.
        if torch.equal(owners, self.owners):
            return self
        values = self.values.index_select(0, rows)
        keys = values if self.keys is self.values else self.keys.index_select(0, rows)
        return Memory(values, keys, self.beyond.index_select(0, rows), owners)

    def attended(self, weights: Tensor | None) -> Attended | None:
        """Weights of one query a row, [N, S], with which of the places there are."""
        return None if weights is None else Attended(weights, self.beyond)


def select_weights(weights: Tensor | None, rows: Tensor) -> Tensor | None:
    """The weights of some rows, where there are any yet."""
    return None if weights is None else weights.index_select(0, rows)


class Attention(nn.Module, ABC):
    """A weighted mean over a memory, for each query: the weights are the softmax of scores."""

    def remember(self, values: Tensor, lengths: Tensor) -> Memory:
        """Prepare what is looked at, once for all queries.

        Args:
            values: [B, S, M].
            lengths: places of each row that count, [B], each from 1 to S.
        """
        beyond = torch.arange(values.shape[1], device=lengths.device) >= lengths[:, None]
        owners = torch.arange(len(values), device=lengths.device)
        return Memory(values, self._keys(values), beyond, owners)

    def forward(self, queries: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Look back.

        Args:
            queries: [B, L, Q].
            memory: of B rows.

        Returns:
            What each query finds, [B, L, M], and the weights, [B, L, S], 0 on padding.
        """
        scores = self._scores(queries, memory.keys)
        weights = scores.masked_fill(memory.beyond[:, None], -torch.inf).softmax(-1)
        return torch.bmm(weights, memory.values), weights

    @abstractmethod
    def _keys(self, values: Tensor) -> Tensor:
        """[B, S, M] -> [B, S, K]."""

    @abstractmethod
    def _scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[B, L, Q] and [B, S, K] -> [B, L, S]."""


class MultiplicativeAttention(Attention):
    """Scores q W k, the "general" ones of Luong et al. 2015, "Effective Approaches to
    Attention-based Neural Machine Translation", section 3.1.

    The queries are brought to the memory, which is compared as it is: where it holds many more
    places than there are queries, as the cells of an image do, that is the cheaper way.

    Args:
        query_size: Q.
        memory_size: M.
        scale: of the scores. A memory of variance 1 wants M ** -0.5, or the scores begin so large
            that each query finds one place (Vaswani et al. 2017). The outputs of recurrent cells
            are small: so scaled, their scores begin all alike, and some seeds never learn to look.
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
    """Scores v tanh(W q + U k), of Bahdanau et al. 2015, "Neural Machine Translation by Jointly
    Learning to Align and Translate", appendix A.1.2.

    It holds B x L x S x K numbers at once.

    Args:
        query_size: Q.
        memory_size: M.
        size: K, of the network between.
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
        both = torch.tanh(self.of_query(queries)[:, :, None] + keys[:, None])
        scores: Tensor = self.to_score(both)[..., 0]
        return scores
