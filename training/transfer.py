"""A training that begins with what another one learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from training.data.source import DataSource
from training.data.tokenizer import Tokenizer
from training.data.vocabularies import Vocabularies
from training.models.build import build_model
from training.models.config import ModelConfig
from training.models.generator import Model, Sizes
from training.trained import TrainedModel, sizes_of


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a model begins with, and what became of each of its tensors.

    Attributes:
        tensors: to begin with, by name.
        taken: the names of those that are the old model's.
        mapped: of those that are so for the tokens that both know: how many rows, and of how many.
        left: why each of the others stays as it is drawn.
    """

    tensors: dict[str, Tensor]
    taken: tuple[str, ...]
    mapped: dict[str, tuple[int, int]]
    left: dict[str, str]

    def describe(self) -> list[str]:
        """Lines to read."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            by_reason.setdefault(reason, []).append(name)
        return [
            *([f"taken: {', '.join(self.taken)}"] if self.taken else []),
            *(
                f"taken by token: {name}, {rows} of {of} rows"
                for name, (rows, of) in self.mapped.items()
            ),
            *(f"left as drawn, {why}: {', '.join(names)}" for why, names in by_reason.items()),
        ]

    def to_json(self) -> str:
        """All but the tensors themselves."""
        told = {"taken": self.taken, "mapped": self.mapped, "left": self.left}
        return json.dumps(told, indent=1)


def transfer(
    model: Model, vocabularies: Vocabularies, data: DataSource, old: TrainedModel
) -> Transfer:
    """Find what a new model can take over from a trained one, of its own kind or another.

    A parameter or buffer of the same name and shape is taken whole. One with a row for each token
    is taken token by token, if both vocabularies cut texts by the same rule. What meets the
    features themselves is taken only if they are of one make, but for the choice of frames.

    Args:
        model: as it is drawn.
        vocabularies: of the new training.
        data: of the new training.
        old: to take from.
    """
    tensors: dict[str, Tensor] = {}
    taken: list[str] = []
    mapped: dict[str, tuple[int, int]] = {}
    left: dict[str, str] = {}
    theirs = old.model.state_dict()
    new_owners, old_owners = model.vocabulary_parameters(), old.model.vocabulary_parameters()
    other_features = _meets_features(old) if _make(data) != _make(old.data) else frozenset()
    for name, mine in model.state_dict().items():
        found = theirs.get(name)
        if found is None:
            left[name] = "the old model has none"
        elif name in other_features:
            left[name] = "features of another make"
        elif name in new_owners and name in old_owners:
            into = _tokenizer(vocabularies, new_owners[name])
            out_of = _tokenizer(old.vocabularies, old_owners[name])
            if into.kind != out_of.kind:
                left[name] = f"tokens are {out_of.kind}, not {into.kind}"
            elif mine.shape[1:] != found.shape[1:]:
                left[name] = _sizes(found, mine)
            else:
                tensors[name], rows = _by_token(mine, into, found, out_of)
                mapped[name] = (rows, len(into))
        elif mine.shape != found.shape:
            left[name] = _sizes(found, mine)
        else:
            tensors[name] = found.detach().clone()
            taken.append(name)
    return Transfer(tensors, tuple(taken), mapped, left)


def _tokenizer(vocabularies: Vocabularies, owner: Literal["source", "target"]) -> Tokenizer:
    tokenizer = vocabularies.target if owner == "target" else vocabularies.source
    assert tokenizer is not None
    return tokenizer


def _by_token(
    mine: Tensor, into: Tokenizer, theirs: Tensor, out_of: Tokenizer
) -> tuple[Tensor, int]:
    """Rows of tokens that both know from theirs, others from mine; and the number of the former."""
    known = {token: row for row, token in enumerate(out_of.tokens())}
    pairs = [(row, known[token]) for row, token in enumerate(into.tokens()) if token in known]
    to, of = torch.tensor(pairs).T
    mixed = mine.detach().clone()
    mixed[to] = theirs[of].to(mixed)
    return mixed, len(pairs)


def _sizes(found: Tensor, mine: Tensor) -> str:
    return f"size {list(found.shape)}, not {list(mine.shape)}"


def _make(data: DataSource) -> Mapping[str, object] | None:
    """What a frame's features are made of, whichever frames were chosen."""
    if data.features is None:
        return None
    made: dict[str, object] = json.loads(data.features.fingerprint)
    return {name: value for name, value in made.items() if name != "sampling"}


def _meets_features(old: TrainedModel) -> frozenset[str]:
    """The tensors of the modules that compute with features: a tensor's size there is theirs."""
    sizes = sizes_of(old.vocabularies, old.data)
    one = _shapes(old.recipe.model, sizes)
    other = _shapes(old.recipe.model, replace(sizes, feature_dim=sizes.feature_dim + 1))
    modules = {_module(name) for name in one if one[name] != other[name]}
    return frozenset(name for name in one if _module(name) in modules)


def _shapes(config: ModelConfig, sizes: Sizes) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = build_model(config, sizes)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _module(name: str) -> str:
    return name.rpartition(".")[0]
