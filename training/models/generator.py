"""The interface that every model which writes words shares.

Training reads whole sequences (`hidden`, then `logits`); search goes word by word (`start`, `step`
and the state's `select`). The two must agree: a test holds each model to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from training.data.batch import Batch


class State(Protocol):
    """What a model remembers between two words, for N rows."""

    def select(self, rows: Tensor) -> Self:
        """The states of some rows, in a new order; a row may be taken more than once."""
        ...


S = TypeVar("S", bound=State)


class Generator(nn.Module, ABC, Generic[S]):
    """A model that writes a sentence, word by word, about what a batch shows."""

    @abstractmethod
    def measure(self, examples: Sequence[Tensor]) -> None:
        """Learn the scale of the features from some training examples, [T, D] each; called once."""

    @abstractmethod
    def hidden(self, batch: Batch) -> Tensor:
        """What each next word is told from, given the right words before it: [B, L, H]."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., V], before the softmax."""

    @abstractmethod
    def start(self, batch: Batch) -> S:
        """Look at the batch's frames; its sentences are not read. State of B rows."""

    @abstractmethod
    def advance(self, state: S, token_ids: Tensor) -> tuple[Tensor, S]:
        """Read one word a row, [N]: what the next is told from, [N, H], and the state after it."""

    def step(self, state: S, token_ids: Tensor) -> tuple[Tensor, S]:
        """Read one word a row, [N]: log-probabilities of the next, [N, V], and the state."""
        hidden, state = self.advance(state, token_ids)
        return torch.log_softmax(self.logits(hidden).float(), -1), state
