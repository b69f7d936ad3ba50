"""The weights that a training begins with: word vectors, and those of another run's model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.arrays.word_vectors import read_word_vectors
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.inference.model_bundle import load_trained
from intertitle.training.inference.warm_start import Transfer, transfer
from intertitle.training.models.base import Model
from intertitle.training.models.build import build_model, sizes_of
from intertitle.training.tracking.store.client import RunRef


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Weights to initialize a model with; all others are initialized at random.

    Attributes:
        tensors: tensors by name.
        params: parameters of the run: hash of each file of word vectors, and number of tokens that
            have a vector in it.
        transfer: weights that are taken from another run's model, or None.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    params: Mapping[str, str | int] = field(default_factory=dict)
    transfer: Transfer | None = None


def initial_weights(
    recipe: Recipe, vocabularies: Vocabs, data: DataRef, source: RunRef | None
) -> InitialWeights:
    """Return the weights that a new training begins with.

    Where another run's model has a token's embedding, its word vector is not used.

    Args:
        recipe: recipe of the training.
        vocabularies: vocabularies of the training.
        data: data of the training.
        source: run with a model to take weights from, or None.

    Raises:
        UserError: a file of word vectors can't be read or does not fit the model, or none of the
            other model's weights fit.
    """
    files = {
        "tokenizer": recipe.tokenizer.vectors,
        "source_tokenizer": recipe.source_tokenizer.vectors,
    }
    if source is None and not any(files.values()):
        return InitialWeights()
    with torch.random.fork_rng(devices=()):
        # Use the seed of the workers, so that embeddings of tokens that only the new model has
        # get the same initial values.
        torch.manual_seed(recipe.training.seed)
        model = build_model(recipe.model, sizes_of(vocabularies, data))
    tensors: dict[str, Tensor] = {}
    params: dict[str, str | int] = {}
    for section, file in files.items():
        if file is not None:
            name, facts = _load_vectors(model, recipe, vocabularies, section, file)
            tensors[name] = model.get_parameter(name).detach()
            params |= {f"{section}.vectors_{key}": value for key, value in facts.items()}
    if source is None:
        return InitialWeights(tensors, params)
    transferred = transfer(model, vocabularies, data, load_trained(source))
    if not transferred.tensors:
        raise UserError(f"--init-from {source.name}: nothing of its model fits {recipe.name}")
    return InitialWeights(tensors | transferred.tensors, params, transferred)


def _load_vectors(
    model: Model, recipe: Recipe, vocabularies: Vocabs, section: str, file: str
) -> tuple[str, dict[str, str | int]]:
    """Copy word vectors into the embedding of a vocabulary.

    Returns:
        The name of the parameter, the hash of the file and the number of tokens with a vector.
    """
    owner = "target" if section == "tokenizer" else "source"
    tokenizer = vocabularies.target if owner == "target" else vocabularies.source
    name = next(
        (
            parameter
            for parameter, side in model.vocabulary_parameters().items()
            if side == owner
            and isinstance(model.get_submodule(parameter.rpartition(".")[0]), nn.Embedding)
        ),
        None,
    )
    if name is None or tokenizer is None:
        raise UserError(
            f"{section}.vectors: {file}: of no use to {recipe.name}, which embeds no {owner} tokens"
        )
    weight = model.get_parameter(name)
    size = weight.shape[1]
    vectors = read_word_vectors(file, tokenizer.tokens(), size, f"{section}.vectors")
    with torch.no_grad():
        weight[torch.from_numpy(vectors.rows)] = torch.from_numpy(vectors.values)
    return name, {"sha256": vectors.sha256, "found": len(vectors.rows)}
