"""`intertitle recipes`: list the recipes, or describe one with its settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import Json


def list_recipes(
    name: Annotated[
        str | None, typer.Argument(help="Name or .toml file of a recipe to describe.")
    ] = None,
    json: Json = False,
) -> None:
    """List the recipes, or describe one: its paper, its settings and their defaults."""
    from intertitle.training.config.describe import describe_recipe
    from intertitle.training.config.recipe import recipe_names

    if name is None:
        recipes = [describe_recipe(known) for known in recipe_names()]
        rows = [(recipe.name, recipe.kind, recipe.text) for recipe in recipes]
        console.table(f"{len(rows)} recipes", ("recipe", "model", "what it is"), rows)
        console.echo("\nsettings of a recipe: intertitle recipes NAME")
        if json:
            console.result({"recipes": [{"name": r[0], "kind": r[1], "text": r[2]} for r in rows]})
        return
    recipe = describe_recipe(name)
    console.echo(f"{recipe.name}: {recipe.model}\n{recipe.text}")
    settings = [
        (
            setting.name,
            _text(setting.value),
            "" if setting.value == setting.default else _text(setting.default),
            setting.meaning + _choice(setting.allowed),
        )
        for setting in recipe.settings
    ]
    console.table(
        "settings, to change with --set SETTING=VALUE; `default` is shown where it differs",
        ("setting", "value", "default", "meaning"),
        settings,
    )
    if json:
        console.result(asdict(recipe))


def _choice(allowed: tuple[object, ...]) -> str:
    return f" Allowed: {', '.join(map(_text, allowed))}." if len(allowed) > 1 else ""


def _text(value: object) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
