"""Warm start: initialize a model with the parameters of a trained one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from intertitle.training.config.models import ModelConfig
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.base import Model, Sizes
from intertitle.training.models.build import build_model, sizes_of


@dataclass(frozen=True, slots=True)
class Transfer:
    """Initial tensors of a model, and where each tensor comes from.

    Attributes:
        tensors: initial tensors taken from the old model, by name.
        copied: names of the tensors that were copied from the old model.
        mapped: tensors with rows copied for the tokens that both vocabularies have, by name: number
            of copied rows and total number of rows.
        fresh: tensors that keep their random initialization, by name, with the reason.
    """

    tensors: dict[str, Tensor]
    copied: tuple[str, ...]
    mapped: dict[str, tuple[int, int]]
    fresh: dict[str, str]

    def describe(self) -> list[str]:
        """Return a description of the transfer as lines of text."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.fresh.items():
            by_reason.setdefault(reason, []).append(name)
        return [
            *([f"taken: {', '.join(self.copied)}"] if self.copied else []),
            *(
                f"taken by token: {name}, {rows} of {total} rows"
                for name, (rows, total) in self.mapped.items()
            ),
            *(f"left as drawn, {cause}: {', '.join(names)}" for cause, names in by_reason.items()),
        ]

    def to_json(self) -> str:
        """Return everything but the tensors themselves as JSON."""
        report = {"taken": self.copied, "mapped": self.mapped, "left": self.fresh}
        return json.dumps(report, indent=1)


def transfer(model: Model, vocabularies: Vocabs, data: DataRef, old: TrainedModel) -> Transfer:
    """Find the tensors that a new model can take over from a trained one of any kind.

    A parameter or buffer with the same name and shape is copied. One with a row per token is copied
    token by token, if both vocabularies use the same kind of tokenizer. Tensors of modules that
    read the features are copied only if the features were computed in the same way, except for the
    sampling of frames.

    Args:
        model: new model with its random initialization.
        vocabularies: vocabularies of the new training.
        data: data of the new training.
        old: trained model to copy from.
    """
    tensors: dict[str, Tensor] = {}
    copied: list[str] = []
    mapped: dict[str, tuple[int, int]] = {}
    fresh: dict[str, str] = {}
    old_tensors = old.model.state_dict()
    new_owners, old_owners = model.vocabulary_parameters(), old.model.vocabulary_parameters()
    feature_tensors = (
        _reads_features(old) if _check_kind(data) != _check_kind(old.data) else frozenset()
    )
    for name, new_tensor in model.state_dict().items():
        old_tensor = old_tensors.get(name)
        if old_tensor is None:
            fresh[name] = "the old model has none"
        elif name in feature_tensors:
            fresh[name] = "features of another make"
        elif name in new_owners and name in old_owners:
            new_tokenizer = _tokenizer(vocabularies, new_owners[name])
            old_tokenizer = _tokenizer(old.vocabularies, old_owners[name])
            if new_tokenizer.kind != old_tokenizer.kind:
                fresh[name] = f"tokens are {old_tokenizer.kind}, not {new_tokenizer.kind}"
            elif new_tensor.shape[1:] != old_tensor.shape[1:]:
                fresh[name] = _sizes(old_tensor, new_tensor)
            else:
                tensors[name], rows = _by_token(
                    new_tensor, new_tokenizer, old_tensor, old_tokenizer
                )
                mapped[name] = (rows, len(new_tokenizer))
        elif new_tensor.shape != old_tensor.shape:
            fresh[name] = _sizes(old_tensor, new_tensor)
        else:
            tensors[name] = old_tensor.detach().clone()
            copied.append(name)
    return Transfer(tensors, tuple(copied), mapped, fresh)


def _tokenizer(vocabularies: Vocabs, owner: Literal["source", "target"]) -> Tokenizer:
    tokenizer = vocabularies.target if owner == "target" else vocabularies.source
    assert tokenizer is not None
    return tokenizer


def _by_token(
    new_tensor: Tensor, into: Tokenizer, old_tensor: Tensor, out_of: Tokenizer
) -> tuple[Tensor, int]:
    """Merge rows by token: those of common tokens from `old_tensor`, the others from `new_tensor`.

    Returns:
        The merged tensor and the number of rows from `old_tensor`.
    """
    old_row_of = {token: row for row, token in enumerate(out_of.tokens())}
    pairs = [
        (row, old_row_of[token]) for row, token in enumerate(into.tokens()) if token in old_row_of
    ]
    new_rows, old_rows = torch.tensor(pairs).T
    merged = new_tensor.detach().clone()
    merged[new_rows] = old_tensor[old_rows].to(merged)
    return merged, len(pairs)


def _sizes(old_tensor: Tensor, new_tensor: Tensor) -> str:
    return f"size {list(old_tensor.shape)}, not {list(new_tensor.shape)}"


def _check_kind(data: DataRef) -> list[Mapping[str, object]]:
    """Return the settings that features were computed with, except for the sampling of frames."""
    settings: list[dict[str, object]] = list(map(json.loads, data.fingerprints))
    return [{n: value for n, value in of_one.items() if n != "sampling"} for of_one in settings]


def _reads_features(old: TrainedModel) -> frozenset[str]:
    """Return the tensors of modules that read features: those with a tensor whose shape depends on
    the size of the features."""
    sizes = sizes_of(old.vocabularies, old.data)
    shapes = _shapes(old.recipe.model, sizes)
    other_shapes = _shapes(old.recipe.model, replace(sizes, feature_dim=sizes.feature_dim + 1))
    modules = {_module(name) for name in shapes if shapes[name] != other_shapes[name]}
    return frozenset(name for name in shapes if _module(name) in modules)


def _shapes(config: ModelConfig, sizes: Sizes) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = build_model(config, sizes)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _module(name: str) -> str:
    return name.rpartition(".")[0]
