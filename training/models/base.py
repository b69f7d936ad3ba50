"""The interface of all models, and the interface of models that generate text.

Training processes whole sequences (`forward`, then `logits`); search proceeds token by token
(`start`, `step`, and the state's `select`). The two must agree, which a test checks for each model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from intertitle.training.data.batch import Batch
from intertitle.training.data.task import Task
from intertitle.training.models.layers import TOKEN_PARAMETERS, TokenLayers

# Number of logits held at once: 64 MB in float32. Larger batches are computed part by part, and
# each part is computed a second time for the gradient.
MAX_LOGITS = 2**24


class State(Protocol):
    """The state of a model between two tokens, for N rows."""

    def select(self, rows: Tensor) -> Self:
        """Return the states of the given rows, in that order; a row may occur more than once."""
        ...


S = TypeVar("S", bound=State)


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a model that depend on the data.

    Attributes:
        vocabulary: V, size of the target vocabulary.
        source_vocabulary: size of the source vocabulary; 0 if the task has no source.
        feature_dim: D, size of a feature vector; 0 if the task has no visual input.
    """

    vocabulary: int
    source_vocabulary: int = 0
    feature_dim: int = 0


class Model(nn.Module, ABC):
    """A model that predicts the targets of a batch: sentences, labels, or running text.

    Attributes:
        task: inputs and output of the model.
    """

    task: ClassVar[Task]

    def fit_normalizer(self, examples: Sequence[Tensor]) -> None:
        """Fit the normalization of the features to some training examples.

        Called once, before training.

        Args:
            examples: features of each example, [T, D] or [T, cells, D].
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Compute the hidden states that the targets are predicted from, [B, L, H].

        Each one depends only on the correct tokens before its target (teacher forcing).
        """

    def forward_with_state(self, batch: Batch, carried: Any) -> tuple[Tensor, Any]:
        """Compute the same as `forward`, and the state that the next batch starts from.

        Only models of running text carry a state; others return None.

        Args:
            batch: B rows.
            carried: state that the previous batch returned, or None; the caller may detach it.
        """
        return self.forward(batch), None

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Compute the logits, [..., H] -> [..., V]."""

    def auxiliary_loss(self, batch: Batch, hidden: Tensor) -> Tensor | None:
        """Return the additional loss of the model, or None if it has none.

        It is a sum over the valid target tokens, which is added to their negative log-likelihood.

        Args:
            batch: batch that `forward` was called with.
            hidden: hidden states that `forward` returned.
        """
        return None

    def attention_hops(self, batch: Batch) -> Tensor | None:
        """Return the attention weights by which a label is predicted, or None without attention.

        Generators attend for each token instead: see `Generator.attention_weights`.

        Returns:
            Weights of one or several hops, [B, hops, S], with positions as in `AttentionWeights`.
        """
        return None

    @abstractmethod
    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        """Return the names of the parameters with one row per token.

        Each name is mapped to the vocabulary that its rows belong to.
        """


@dataclass(frozen=True, slots=True)
class AttentionWeights:
    """The attention weights of the last predicted token, for N rows.

    A position is a token of the source, in order, or a cell of a frame: the cells of a frame are
    consecutive, row by row, as in the features.

    Attributes:
        weights: weights of the positions, [N, S], 0 on padding; each row sums to 1.
        padding_mask: True where a position is padding, bool, [N, S].
    """

    weights: Tensor
    padding_mask: Tensor


class Generator(Model, Generic[S]):
    """A model that generates text, token by token.

    Attributes:
        words: embedding and output layer of the tokens.
    """

    words: TokenLayers

    def logits(self, hidden: Tensor) -> Tensor:
        return self.words.logits(hidden)

    def vocabulary_parameters(self) -> dict[str, Literal["source", "target"]]:
        token_parameters = {f"words.{name}" for name in TOKEN_PARAMETERS}
        return {name: "target" for name, _ in self.named_parameters() if name in token_parameters}

    @abstractmethod
    def start(self, batch: Batch) -> S:
        """Encode the inputs of the batch, not its targets, and return the state of B rows."""

    @abstractmethod
    def advance(self, state: S, token_ids: Tensor) -> tuple[Tensor, S]:
        """Read one token per row.

        Args:
            state: state of N rows.
            token_ids: one token per row, [N].

        Returns:
            The hidden states that the next tokens are predicted from, [N, H], and the new state.
        """

    def step(self, state: S, token_ids: Tensor) -> tuple[Tensor, S]:
        """Read one token per row, [N].

        Returns:
            The log-probabilities of the next tokens, [N, V], and the new state.
        """
        hidden, state = self.advance(state, token_ids)
        return torch.log_softmax(self.logits(hidden).float(), -1), state

    def attention_weights(self, state: S) -> AttentionWeights | None:
        """Return the attention weights of the last predicted token, or None without attention.

        Args:
            state: state that `step` returned, or a selection of its rows.
        """
        return None
