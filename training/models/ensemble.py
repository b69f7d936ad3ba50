"""Several models as one: their probabilities are averaged, word by word (Sutskever et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from training.data.batch import Batch
from training.models.generator import Attended, Generator, Model


@dataclass(frozen=True, slots=True)
class EnsembleState:
    """The states of all members, for the same N rows."""

    states: tuple[Any, ...]

    def select(self, rows: Tensor) -> Self:
        """See `State`."""
        return type(self)(tuple(state.select(rows) for state in self.states))

    def detach(self) -> Self:
        """The same, cut off from its gradient."""
        return type(self)(tuple(state.detach() for state in self.states))


class LabelEnsemble(Model):
    """Models that answer with labels, as one.

    What it tells from ("hidden") are the averaged log-probabilities themselves, [B, L, V].

    Args:
        members: of one task and with the same vocabulary; they may differ in all else.
    """

    def __init__(self, members: Sequence[Model]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.task = members[0].task  # type: ignore[misc]  # of an instance here

    def hidden(self, batch: Batch) -> Tensor:
        return _average([model.logits(model.hidden(batch)) for model in _models(self.members)])

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def vocabulary_parameters(self) -> dict[str, Any]:
        return {}


class Ensemble(Generator[EnsembleState]):
    """Generators as one; what it tells from ("hidden") are the averaged log-probabilities.

    Args:
        members: of one task and with the same vocabulary; they may differ in all else.
    """

    def __init__(self, members: Sequence[Generator[Any]]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.task = members[0].task  # type: ignore[misc]  # of an instance here

    def hidden(self, batch: Batch) -> Tensor:
        return self.read_on(batch, None)[0]

    def read_on(
        self, batch: Batch, carried: EnsembleState | None
    ) -> tuple[Tensor, EnsembleState | None]:
        members = _models(self.members)
        befores = carried.states if carried else (None,) * len(members)
        read = [model.read_on(batch, b) for model, b in zip(members, befores, strict=True)]
        told = _average([m.logits(h) for m, (h, _) in zip(members, read, strict=True)])
        states = tuple(state for _, state in read)
        return told, None if states[0] is None else EnsembleState(states)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden

    def start(self, batch: Batch) -> EnsembleState:
        return EnsembleState(tuple(model.start(batch) for model in _models(self.members)))

    def advance(self, state: EnsembleState, token_ids: Tensor) -> tuple[Tensor, EnsembleState]:
        told, states = zip(
            *(
                model.step(before, token_ids)
                for model, before in zip(_models(self.members), state.states, strict=True)
            ),
            strict=True,
        )
        return _average(told), EnsembleState(states)

    def attended(self, state: EnsembleState) -> Attended | None:
        """The mean over those that have attention: all look at the same places."""
        members = zip(_models(self.members), state.states, strict=True)
        looks = [look for model, s in members if (look := model.attended(s)) is not None]
        if not looks:
            return None
        return Attended(torch.stack([look.weights for look in looks]).mean(0), looks[0].beyond)


def _models(members: nn.ModuleList) -> list[Any]:
    return list(members)


def _average(logits: Sequence[Tensor]) -> Tensor:
    """The logarithm of the mean of the probabilities."""
    log_probs = torch.stack([torch.log_softmax(one.float(), -1) for one in logits])
    return log_probs.logsumexp(0) - math.log(len(logits))
