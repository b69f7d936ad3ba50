"""Build models from the configuration of a recipe."""

from __future__ import annotations

from intertitle.training.config.models import MODELS, ModelConfig
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.task import Task
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.base import Model, Sizes


def network_of(config: ModelConfig) -> type[Model]:
    """Import the class of a model.

    Raises:
        UserError: the package that adds it can't be imported.
    """
    reference = MODELS.load(config.kind, "model.kind").network
    network: type[Model] = MODELS.import_reference(config.kind, reference)
    return network


def task_of(config: ModelConfig) -> Task:
    """Return the task of a model: its inputs and its output."""
    return network_of(config).task


def build_model(config: ModelConfig, sizes: Sizes) -> Model:
    """Build a model with newly initialized weights, drawn from PyTorch's default generator.

    A model receives the sizes that its task needs (`feature_dim`, `source_vocabulary`,
    `vocabulary`) and the fields of the recipe's model section.
    """
    network = network_of(config)
    size_arguments = {"vocabulary": sizes.vocabulary}
    if network.task.has_source:
        size_arguments["source_vocabulary"] = sizes.source_vocabulary
    if network.task.visual_input != "nothing":
        size_arguments["feature_dim"] = sizes.feature_dim
    return network(**size_arguments, **config.model_dump(exclude={"kind"}))


def sizes_of(vocabularies: Vocabs, data: DataRef) -> Sizes:
    """Return the sizes of a model that depend on the data."""
    source = vocabularies.source
    return Sizes(len(vocabularies.target), len(source) if source else 0, data.feature_dim)
