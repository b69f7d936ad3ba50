"""The recipe: a typed, immutable configuration that is read from TOML."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import METRICS
from intertitle.training.config.models import ModelConfig, Section
from intertitle.training.config.samplers import SAMPLERS
from intertitle.training.config.sections import (
    EvaluationConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SearchConfig,
    TokenizerConfig,
    TrainingConfig,
)
from intertitle.training.config.toml_config import parse_toml, validate


class Recipe(Section):
    """Everything that determines a training except its data.

    Attributes:
        name: name of the recipe.
        model: settings of the model.
        tokenizer: settings of the target tokenizer.
        source_tokenizer: settings of the source tokenizer, for models with a source.
        objective: settings of the training objective.
        optimizer: settings of the optimizer.
        training: settings of the training loop.
        search: settings of the search.
        evaluation: settings of the evaluation metrics.
    """

    name: str
    model: ModelConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    source_tokenizer: TokenizerConfig = TokenizerConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


def recipe_names() -> list[str]:
    """Return the names of the recipes that come with the project."""
    folder = resources.files("intertitle.training") / "recipes"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes to it.

    Args:
        name: name of a recipe that comes with the project, or path of a TOML file.
        settings: changes, each "section.field=value"; the value is parsed as TOML, or taken as text
            if it is not valid TOML.

    Raises:
        UserError: there is no such recipe, a value is not allowed, or no metric or sampler has the
            name of `training.monitor` or `training.sampler`.
    """
    tree = parse_toml(_read(name), name)
    for setting in settings:
        _apply(tree, setting)
    recipe = parse_recipe({"name": Path(name).name.removesuffix(".toml"), **tree}, name)
    # The recipe of a trained model may name what only its training needs, and which may not be
    # installed where the model is used.
    METRICS.check(recipe.training.monitor, f"{name}: training.monitor")
    SAMPLERS.check(recipe.training.sampler, f"{name}: training.sampler")
    return recipe


def recipe_text(name: str) -> str:
    """Return the text of a recipe's file, which has been read by `load_recipe` before."""
    return _read(name).decode()


def _read(name: str) -> bytes:
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{name}: no such recipe file")
        return path.read_bytes()
    if name not in recipe_names():
        known = ", ".join(recipe_names())
        raise UserError(f"recipe: {name!r}, allowed: {known}, or the path of a .toml file")
    return (resources.files("intertitle.training") / "recipes" / f"{name}.toml").read_bytes()


def change_recipe(recipe: Recipe, settings: Sequence[str], where: str) -> Recipe:
    """Return the recipe with the given changes.

    Args:
        recipe: recipe to change.
        settings: changes as in `load_recipe`.
        where: origin of the changes, which error messages begin with.

    Raises:
        UserError: a value is not allowed.
    """
    tree = recipe.model_dump()
    for setting in settings:
        _apply(tree, setting)
    return parse_recipe(tree, where)


def scale_to_workers(recipe: Recipe, workers: int) -> Recipe:
    """Return the recipe with the batch and the learning rate for a number of workers.

    If `training.batch_tokens_per_worker` is set, a batch has that many tokens for each worker, and
    the learning rate is multiplied by the square root of the growth of the batch: the rule for
    Adam, whose steps have a length that does not depend on the gradient's (Malladi et al. 2022, "On
    the SDEs and Scaling Rules for Adaptive Gradient Algorithms"). For these workers, the result is
    its own result.
    """
    training, optimizer = recipe.training, recipe.optimizer
    if training.batch_tokens_per_worker is None:
        return recipe
    batch_tokens = training.batch_tokens_per_worker * workers
    rate = optimizer.learning_rate * math.sqrt(batch_tokens / training.batch_tokens)
    return recipe.model_copy(
        update={
            "training": training.model_copy(update={"batch_tokens": batch_tokens}),
            "optimizer": optimizer.model_copy(update={"learning_rate": rate}),
        }
    )


def change_search(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """Return the recipe with changed search settings.

    Args:
        recipe: recipe to change.
        changes: values by field; None leaves a field unchanged.

    Raises:
        UserError: a value is not allowed.
    """
    values = {name: value for name, value in changes.items() if value is not None}
    tree = recipe.model_dump()
    return parse_recipe({**tree, "search": {**tree["search"], **values}}, recipe.name)


def parse_recipe(tree: Mapping[str, Any], where: str) -> Recipe:
    """Validate a recipe given as nested plain values.

    Args:
        tree: sections and their fields.
        where: origin of the values, which error messages begin with.

    Raises:
        UserError: a value is not allowed; the message names the origin, the field, the value and
            the allowed values.
    """
    return validate(Recipe, tree, where)


def _apply(tree: dict[str, Any], setting: str) -> None:
    path, equals, value = setting.partition("=")
    *sections, name = path.strip().split(".")
    if not equals or not name:
        raise UserError(f"--set {setting!r}: expected section.field=value")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {setting!r}: {section!r} is not a section")
    try:
        tree[name] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        tree[name] = value


def flatten(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as a mapping "section.field" -> value, to log as parameters."""
    flat: dict[str, Any] = {}
    for name, value in recipe.model_dump().items():
        if isinstance(value, dict):
            flat.update({f"{name}.{field}": v for field, v in value.items()})
        else:
            flat[name] = value
    return flat
