"""The interface that every model shares, and that of those which write.

Training reads whole sequences (`hidden`, then `logits`); search goes word by word (`start`, `step`
and the state's `select`). The two must agree: a test holds each model to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.data.task import Task
from training.models.words import BY_WORD, Words


class State(Protocol):
    """What a model remembers between two words, for N rows."""

    def select(self, rows: Tensor) -> Self:
        """The states of some rows, in a new order; a row may be taken more than once."""
        ...


S = TypeVar("S", bound=State)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What the data says of a model's size.

    Attributes:
        vocabulary: V, of what is told.
        source_vocabulary: of what is read; 0 where nothing is.
        feature_dim: D; 0 where nothing is seen.
    """

    vocabulary: int
    source_vocabulary: int = 0
    feature_dim: int = 0


class Model(nn.Module, ABC):
    """A model that tells something about what a batch holds: words, labels, a word of running text.

    Attributes:
        task: what it reads and tells.
    """

    task: ClassVar[Task]

    def measure(self, examples: Sequence[Tensor]) -> None:
        """Learn the scale of the features from some training examples, [T, D] or [T, cells, D]
        each; called once, before training."""

    @abstractmethod
    def hidden(self, batch: Batch) -> Tensor:
        """What each target is told from, given the right words before it: [B, L, H]."""

    def read_on(self, batch: Batch, carried: Any) -> tuple[Tensor, Any]:
        """As `hidden`, and what the next batch begins with; only running text goes on.

        Args:
            batch: B rows.
            carried: what the batch before returned, or None; it can be detached.
        """
        return self.hidden(batch), None

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., V], before the softmax."""

    def penalty(self, batch: Batch, hidden: Tensor) -> Tensor | None:
        """What the loss has beside the words, summed over the tokens that count; or nothing.

        Args:
            batch: as of `hidden`.
            hidden: what that returned.
        """
        return None

    @abstractmethod
    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        """The parameters with a row for each token, by name, and whose tokens they are."""


@dataclass(frozen=True, slots=True)
class Attended:
    """Where a model looked to tell a word, for N rows.

    A place is a token of the source, in its order, or a cell of a frame: those of a frame stand
    together, row by row, as the features have them.

    Attributes:
        weights: [N, S], 0 on padding; those of a row add up to 1.
        beyond: whether a place is padding, [N, S].
    """

    weights: Tensor
    beyond: Tensor


class Generator(Model, Generic[S]):
    """A model that writes, word by word.

    Attributes:
        words: that it reads and tells.
    """

    words: Words

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        mine = {f"words.{name}" for name in BY_WORD}
        return {name: "target" for name, _ in self.named_parameters() if name in mine}

    @abstractmethod
    def start(self, batch: Batch) -> S:
        """Look at the batch; its sentences are not read. State of B rows."""

    @abstractmethod
    def advance(self, state: S, token_ids: Tensor) -> tuple[Tensor, S]:
        """Read one word a row, [N]: what the next is told from, [N, H], and the state after it."""

    def step(self, state: S, token_ids: Tensor) -> tuple[Tensor, S]:
        """Read one word a row, [N]: log-probabilities of the next, [N, V], and the state."""
        hidden, state = self.advance(state, token_ids)
        return torch.log_softmax(self.logits(hidden).float(), -1), state

    def attended(self, state: S) -> Attended | None:
        """Where it looked to tell the last word; None where a model has no attention.

        Args:
            state: that `step` returned, or some rows of it.
        """
        return None
