"""A model to use, with all that it needs: what a run keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load

from pipeline.errors import UserError
from training.checkpoint import read_folder, save_tensors, write_folder
from training.config import Recipe, change_recipe, change_search, parse_recipe
from training.data.source import DataSource
from training.data.task import Task
from training.data.vocabularies import Vocabularies
from training.models.build import build_model, task_of
from training.models.ensemble import Ensemble, LabelEnsemble
from training.models.generator import Generator, Model, Sizes


def sizes_of(vocabularies: Vocabularies, data: DataSource) -> Sizes:
    """What the data says of a model's size."""
    source = vocabularies.source
    return Sizes(len(vocabularies.target), len(source) if source else 0, data.feature_dim)


@dataclass(frozen=True)
class TrainedModel:
    """A model to use, with all that it needs: what a run keeps.

    Attributes:
        model: in evaluation mode.
        vocabularies: of its texts.
        recipe: it was trained by.
        data: it was trained on; features of another make are refused.
        step: the optimizer's steps that its training took.
    """

    model: Model
    vocabularies: Vocabularies
    recipe: Recipe
    data: DataSource
    step: int

    @property
    def task(self) -> Task:
        """What the model reads and tells."""
        return task_of(self.recipe.model)

    def searching(self, **changes: object) -> TrainedModel:
        """The same, with another search: fields of `SearchConfig`; None is as it was.

        Raises:
            UserError: a value is not allowed.
        """
        return replace(self, recipe=change_search(self.recipe, changes))

    def reading(self, max_tokens: int | None) -> TrainedModel:
        """The same, reading so many tokens of a source at most; None is as it was.

        Raises:
            UserError: the model reads no source, or the number is not allowed.
        """
        if max_tokens is None:
            return self
        if not self.task.reads:
            raise UserError(
                f"--max-source-tokens {max_tokens}: of no use to {self.recipe.name}, which reads "
                "no text"
            )
        setting = f"source_tokenizer.max_tokens={max_tokens}"
        recipe = change_recipe(self.recipe, [setting], "--max-source-tokens")
        return replace(self, recipe=recipe)

    def on_gpu_if_any(self) -> TrainedModel:
        """The same, its model moved to this process's GPU if it has one."""
        if torch.cuda.is_available():
            self.model.to("cuda")
        return self

    def wanting(self, data: DataSource) -> DataSource:
        """Some data, of which features of another make than the model's are refused when it is
        opened."""
        if not (data.features and self.data.features):
            return data
        make = replace(data.features, fingerprint=self.data.features.fingerprint)
        return replace(data, features=make)

    def write(self, folder: Path) -> None:
        """Write it, all or nothing."""
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
        )

    @classmethod
    def read(cls, folder: Path) -> TrainedModel:
        """The inverse of `write`.

        Raises:
            UserError: it is damaged.
        """
        files = read_folder(folder)
        recipe = parse_recipe(json.loads(files["recipe.json"]), f"{folder}/recipe.json")
        vocabularies = Vocabularies.from_json(files["vocabularies.json"].decode())
        training = json.loads(files["training.json"])
        data = DataSource.from_dict(training["data"])
        model = build_model(recipe.model, sizes_of(vocabularies, data))
        model.load_state_dict(load(files["model.safetensors"]))
        return cls(model.eval(), vocabularies, recipe, data, training["step"])


def ensemble_of(members: Mapping[str, TrainedModel]) -> TrainedModel:
    """Several models as one that averages their probabilities: the first's recipe and data.

    Args:
        members: by the name of the run; they may differ in kind and size.

    Raises:
        UserError: one reads, sees or tells something else than the first.
    """
    (name, first), *others = members.items()
    for other_name, other in others:
        mine, theirs = first.data.features, other.data.features
        for what, same in (
            ("task", first.task == other.task),
            ("vocabulary", first.vocabularies.to_json() == other.vocabularies.to_json()),
            ("make of features", mine is None or (theirs or mine).fingerprint == mine.fingerprint),
        ):
            if not same:
                raise UserError(
                    f"ensemble: {other_name} has another {what} than {name}; they have to be the "
                    "same, all else may differ"
                )
    if not others:
        return first
    models = [member.model for member in members.values()]
    generators = [model for model in models if isinstance(model, Generator)]
    together = Ensemble(generators) if generators else LabelEnsemble(models)
    return replace(first, model=together.eval())
