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
    """What N rows look back at: R memories, each of as many rows, N / R, that stand together.

    Attributes:
        values: [R, S, M].
        keys: what queries are compared with, [R, S, K].
        beyond: whether a place is padding, [R, S]; at least one of each memory is not.
        owners: which of the memories each row has, [N].
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
        # Its sentences about one thing share a memory; in any other order each row has its own.
        kept, nums = owners.unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
        if not torch.equal(nums, nums[:1].expand_as(nums)):
            kept, nums = owners, torch.ones_like(owners)
        values = self.values.index_select(0, kept)
        keys = values if self.keys is self.values else self.keys.index_select(0, kept)
        owners = torch.arange(len(kept), device=rows.device).repeat_interleave(nums)
        return Memory(values, keys, self.beyond.index_select(0, kept), owners)

    def attended(self, weights: Tensor | None) -> Attended | None:
        """Weights of one query a row, [N, S], with which of the places there are."""
        if weights is None:
            return None
        return Attended(weights, self.beyond.index_select(0, self.owners))


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
            memory: of B rows; those that share one ask it together.

        Returns:
            What each query finds, [B, L, M], and the weights, [B, L, S], 0 on padding.
        """
        together = queries.reshape(len(memory.values), -1, queries.shape[2])
        scores = self._scores(together, memory.keys)
        weights = scores.masked_fill(memory.beyond[:, None], -torch.inf).softmax(-1)
        found = torch.bmm(weights, memory.values)
        shape = queries.shape[:2]
        return found.view(*shape, -1), weights.view(*shape, -1)

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
