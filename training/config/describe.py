"""Descriptions of recipes, for people who choose one."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from intertitle.training.config.metrics import METRICS
from intertitle.training.config.recipe import Recipe, load_recipe, recipe_text
from intertitle.training.config.samplers import SAMPLERS
from intertitle.training.config.sections import TrainingConfig

_ATTRIBUTE = re.compile(r"    (\w+): (.*)")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of a recipe.

    Attributes:
        name: name for `--set`, "section.field".
        value: value in the recipe.
        default: value where a recipe does not set it; None without a default.
        allowed: allowed values of a choice; empty for other settings.
        meaning: description, with its unit.
    """

    name: str
    value: Any
    default: Any
    allowed: tuple[Any, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class RecipeDescription:
    """A recipe that comes with the project, or one of a file.

    Attributes:
        name: name of the recipe.
        kind: kind of its model.
        model: description of that kind, one sentence.
        text: paper and differences from it.
        settings: all settings but the kind of the model, in the order of the sections.
    """

    name: str
    kind: str
    model: str
    text: str
    settings: tuple[Setting, ...]


def describe_recipe(name: str) -> RecipeDescription:
    """Describe a recipe.

    Args:
        name: name of a recipe that comes with the project, or path of a TOML file.

    Raises:
        UserError: there is no such recipe.
    """
    recipe = load_recipe(name)
    settings = [
        Setting(f"{section}.{field}", value, *_facts(type(owner), field))
        for section in Recipe.model_fields
        if isinstance(owner := getattr(recipe, section), BaseModel)
        for field, value in owner
        if (section, field) != ("model", "kind")
    ]
    doc = inspect.getdoc(type(recipe.model)) or ""
    return RecipeDescription(
        recipe.name,
        recipe.model.kind,
        doc.partition("\n")[0],
        _leading_comment(recipe_text(name)),
        tuple(settings),
    )


def _leading_comment(text: str) -> str:
    """Return the comment at the beginning of a recipe's file, as one paragraph."""
    lines = text.partition("\n[")[0].splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def _facts(section: type[BaseModel], field: str) -> tuple[Any, tuple[Any, ...], str]:
    """Return the default, the allowed values and the description of a field."""
    info = section.model_fields[field]
    default = None if info.default is PydanticUndefined else info.default
    is_choice = get_origin(info.annotation) is Literal
    allowed = get_args(info.annotation) if is_choice else ()
    if (section, field) == (TrainingConfig, "monitor"):
        metrics = METRICS.load_all()[0].values()
        allowed = (info.default, *(metric.name for metric in metrics if metric.monitor))
    if (section, field) == (TrainingConfig, "sampler"):
        allowed = tuple(SAMPLERS.names())
    # A field may be described by the class that the section extends.
    for owner in section.__mro__:
        if (meaning := _attributes(owner).get(field)) is not None:
            return default, allowed, meaning
    raise LookupError(f"{section.__name__}.{field}: not described in the docstring")


def _attributes(owner: type) -> dict[str, str]:
    """Return the descriptions of attributes in the docstring of a class."""
    _, _, section = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")
    described: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if match := _ATTRIBUTE.fullmatch(line):
            name = match[1]
            described[name] = match[2]
        elif name:
            described[name] += f" {line.strip()}"
    return described
