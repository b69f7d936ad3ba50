"""Trained models together with what inference needs, as runs store them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load
from upath import UPath

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.format_version import FormatVersion
from intertitle.pipeline.storage.manifest_folder import read_folder, write_folder
from intertitle.training.config.recipe import Recipe, change_recipe, change_search, parse_recipe
from intertitle.training.data.data_ref import (
    Data,
    DataRef,
    StorePaths,
    check_fingerprints,
    open_data,
    store_paths,
)
from intertitle.training.data.task import Task
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.base import Generator, Model
from intertitle.training.models.build import build_model, sizes_of, task_of
from intertitle.training.models.ensemble import Ensemble, LabelEnsemble
from intertitle.training.tracking.store.client import RunRef, download
from intertitle.training.trainer.checkpoint import save_tensors

MODEL_ARTIFACT = "model"
MODEL_FORMAT = FormatVersion("model bundle", 2)


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with everything that inference needs, as a run stores it.

    Attributes:
        model: model in evaluation mode.
        vocabularies: vocabularies of its source and target texts.
        recipe: recipe that it was trained with.
        data: data that it was trained on; features with another fingerprint are refused.
        step: number of optimizer steps of its training.
    """

    model: Model
    vocabularies: Vocabs
    recipe: Recipe
    data: DataRef
    step: int

    @property
    def task(self) -> Task:
        """Inputs and output of the model."""
        return task_of(self.recipe.model)

    def with_search(self, **changes: object) -> TrainedModel:
        """Return a copy with other search settings.

        Args:
            **changes: fields of `SearchConfig`; None keeps the current value.

        Raises:
            UserError: a value is not allowed.
        """
        return replace(self, recipe=change_search(self.recipe, changes))

    def reading(self, max_tokens: int | None) -> TrainedModel:
        """Return a copy that reads at most a given number of source tokens.

        Args:
            max_tokens: maximum number of source tokens; None keeps the current value.

        Raises:
            UserError: the model reads no source, or the number is not allowed.
        """
        if max_tokens is None:
            return self
        if not self.task.has_source:
            raise UserError(
                f"--max-source-tokens {max_tokens}: of no use to {self.recipe.name}, which reads "
                "no text"
            )
        setting = f"source_tokenizer.max_tokens={max_tokens}"
        recipe = change_recipe(self.recipe, [setting], "--max-source-tokens")
        return replace(self, recipe=recipe)

    def to_default_device(self) -> TrainedModel:
        """Move the model to the GPU of this process, if it has one, and return the bundle."""
        if torch.cuda.is_available():
            self.model.to("cuda")
        return self

    def check_features(self, data: Data) -> None:
        """Check that features were computed like those that the model was trained on.

        Raises:
            UserError: they were computed in another way.
        """
        if data.features:
            check_fingerprints(data.features.stores, self.data.fingerprints)

    def write(self, folder: Path) -> None:
        """Write the model to a folder atomically."""
        write_folder(
            folder,
            {
                "model.safetensors": save_tensors(self.model.state_dict()),
                "vocabularies.json": self.vocabularies.to_json().encode(),
                "recipe.json": self.recipe.model_dump_json(indent=1).encode(),
                "training.json": json.dumps(
                    {"data": self.data.facts(), "step": self.step}, indent=1
                ).encode(),
            },
            MODEL_FORMAT,
        )

    @classmethod
    def read(cls, folder: Path) -> TrainedModel:
        """Read a model from a folder that `write` wrote.

        Raises:
            UserError: the folder is damaged, or has another version of the format.
        """
        files = read_folder(folder, MODEL_FORMAT)
        recipe = parse_recipe(json.loads(files["recipe.json"]), f"{folder}/recipe.json")
        vocabularies = Vocabs.from_json(files["vocabularies.json"].decode())
        training = json.loads(files["training.json"])
        data = DataRef.from_dict(training["data"])
        model = build_model(recipe.model, sizes_of(vocabularies, data))
        model.load_state_dict(load(files["model.safetensors"]))
        return cls(model.eval(), vocabularies, recipe, data, training["step"])


def make_ensemble(members: Mapping[str, TrainedModel]) -> TrainedModel:
    """Combine several models into one that averages their probabilities.

    The recipe and the data are those of the first model.

    Args:
        members: models by the name of their run; they may differ in kind and size.

    Raises:
        UserError: a model differs from the first in its task, vocabularies or kind of features.
    """
    (name, first), *other_members = members.items()
    for other_name, other_model in other_members:
        for aspect, is_equal in (
            ("task", first.task == other_model.task),
            ("vocabulary", first.vocabularies.to_json() == other_model.vocabularies.to_json()),
            ("make of features", first.data.fingerprints == other_model.data.fingerprints),
        ):
            if not is_equal:
                raise UserError(
                    f"ensemble: {other_name} has another {aspect} than {name}; they have to be the "
                    "same, all else may differ"
                )
    if not other_members:
        return first
    models = [member.model for member in members.values()]
    generators = [model for model in models if isinstance(model, Generator)]
    ensemble = Ensemble(generators) if generators else LabelEnsemble(models)
    return replace(first, model=ensemble.eval())


def load_trained(ref: RunRef) -> TrainedModel:
    """Load the model that a run stored.

    Raises:
        UserError: the run has no model, or the files are damaged.
    """
    return TrainedModel.read(download(ref, MODEL_ARTIFACT))


def load_ensemble(runs: Sequence[RunRef]) -> TrainedModel:
    """Load the models of several runs as an ensemble with the recipe of the first run.

    Raises:
        UserError: a model can't be loaded (see `load_trained`), a run is given twice, or the models
            do not make an ensemble (see `make_ensemble`).
    """
    members = {run.run_id: run for run in runs}
    if len(members) < len(runs):
        raise UserError("--ensemble: the same run twice")
    return make_ensemble({run.name: load_trained(run) for run in members.values()})


def data_for(
    trained: TrainedModel, corpus: UPath | Path | None, features: StorePaths = None
) -> Data:
    """Open the current data to use a model on; changes since the training are reported, not
    ignored.

    Args:
        trained: trained model.
        corpus: path of the corpus; None uses the corpus that the model was trained on.
        features: feature stores, in the order of the training; None uses those that the model was
            trained on.

    Raises:
        UserError: the data does not exist, or is not the visual input of the model's task.
    """
    stores = store_paths(features) or trained.data.stores
    return open_data(corpus or trained.data.corpus, stores, trained.task.visual_input)
