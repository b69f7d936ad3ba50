"""Ensembles of models, which average their probabilities (Sutskever et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from intertitle.training.data.batch import Batch
from intertitle.training.models.base import AttentionWeights, Generator, Model


@dataclass(frozen=True, slots=True)
class EnsembleState:
    """The states of all members, for the same N rows."""

    states: tuple[Any, ...]

    def select(self, rows: Tensor) -> Self:
        """Return the states of the given rows; see `State.select`."""
        return type(self)(tuple(state.select(rows) for state in self.states))

    def detach(self) -> Self:
        """Return the same states, detached from the graph."""
        return type(self)(tuple(state.detach() for state in self.states))


class LabelEnsemble(Model):
    """An ensemble of models that predict labels.

    The hidden states that it returns are the averaged log-probabilities themselves, [B, L, V].

    Args:
        members: models of the same task with the same vocabulary; they may differ in everything
            else.
    """

    def __init__(self, members: Sequence[Model]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.task = members[0].task  # type: ignore[misc]  # an instance attribute here

    def forward(self, batch: Batch) -> Tensor:
        return _average([model.logits(model.forward(batch)) for model in _models(self.members)])

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def attention_hops(self, batch: Batch) -> Tensor | None:
        """Return the mean over the members that have attention, of as many last hops as all have.

        All members attend to the same positions.
        """
        hops = [model.attention_hops(batch) for model in _models(self.members)]
        weights = [member_weights for member_weights in hops if member_weights is not None]
        if not weights:
            return None
        num = min(member_weights.shape[1] for member_weights in weights)
        return torch.stack([member_weights[:, -num:] for member_weights in weights]).mean(0)

    def vocabulary_parameters(self) -> dict[str, Any]:
        return {}


class Ensemble(Generator[EnsembleState]):
    """An ensemble of generators; its hidden states are the averaged log-probabilities, [B, L, V].

    Args:
        members: models of the same task with the same vocabulary; they may differ in everything
            else.
    """

    def __init__(self, members: Sequence[Generator[Any]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.task = members[0].task  # type: ignore[misc]  # an instance attribute here

    def forward(self, batch: Batch) -> Tensor:
        return self.forward_with_state(batch, None)[0]

    def forward_with_state(
        self, batch: Batch, carried: EnsembleState | None
    ) -> tuple[Tensor, EnsembleState | None]:
        members = _models(self.members)
        previous = carried.states if carried else (None,) * len(members)
        results = [
            model.forward_with_state(batch, b) for model, b in zip(members, previous, strict=True)
        ]
        log_probs = _average([m.logits(h) for m, (h, _) in zip(members, results, strict=True)])
        states = tuple(state for _, state in results)
        return log_probs, None if states[0] is None else EnsembleState(states)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def start(self, batch: Batch) -> EnsembleState:
        return EnsembleState(tuple(model.start(batch) for model in _models(self.members)))

    def advance(self, state: EnsembleState, token_ids: Tensor) -> tuple[Tensor, EnsembleState]:
        log_probs, states = zip(
            *(
                model.step(member_state, token_ids)
                for model, member_state in zip(_models(self.members), state.states, strict=True)
            ),
            strict=True,
        )
        return _average(log_probs), EnsembleState(states)

    def attention_weights(self, state: EnsembleState) -> AttentionWeights | None:
        """Return the mean over the members that have attention.

        All members attend to the same positions.
        """
        members = zip(_models(self.members), state.states, strict=True)
        weights = [
            member_weights
            for model, s in members
            if (member_weights := model.attention_weights(s)) is not None
        ]
        if not weights:
            return None
        return AttentionWeights(
            torch.stack([member_weights.weights for member_weights in weights]).mean(0),
            weights[0].padding_mask,
        )


def _models(members: nn.ModuleList) -> list[Any]:
    return list(members)


def _average(logits: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of the probabilities."""
    log_probs = torch.stack(
        [torch.log_softmax(member_logits.float(), -1) for member_logits in logits]
    )
    return log_probs.logsumexp(0) - math.log(len(logits))
