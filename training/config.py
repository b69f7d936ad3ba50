"""What a recipe says: one typed, frozen tree, read from TOML.

Values are checked once, here; classes elsewhere take plain arguments.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UserError

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Section):
    """The network.

    Attributes:
        kind: which of the models.
        embedding_size: of a word, and of a projected frame.
        hidden_size: H, of each LSTM layer.
        dropout: on the embeddings, the projected frames and the output.
        feature_dropout: on the frames' features as they come.
    """

    kind: Literal["show_and_tell", "mean_pool_video", "s2vt"]
    embedding_size: PositiveInt = 512
    hidden_size: PositiveInt = 512
    dropout: Share = 0.5
    feature_dropout: Share = 0.0


class TokenizerConfig(_Section):
    """How sentences become numbers; built from the training split alone.

    Attributes:
        min_count: a word seen less often is unknown.
        max_words: a longer target is cut.
    """

    min_count: PositiveInt = 5
    max_words: PositiveInt = 30


class OptimizerConfig(_Section):
    """How the weights move.

    Attributes:
        learning_rate: its highest value.
        weight_decay: decoupled, as in AdamW.
        warmup: share of the training over which the learning rate rises from 0.
        decay: how it falls afterwards: along a cosine to 0, or not at all.
        clip_norm: the gradient's norm is cut to it.
        label_smoothing: share of the target's probability spread over the vocabulary.
        average_decay: per step, of the running average of the weights that is evaluated and kept; 0
            keeps the weights themselves.
    """

    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Share = 0.05
    decay: Literal["cosine", "none"] = "cosine"
    clip_norm: PositiveFloat = 5.0
    label_smoothing: Share = 0.1
    average_decay: Share = 0.0


class TrainingConfig(_Section):
    """How long, in which portions, and when to stop.

    Attributes:
        seed: of the weights, the batches and the dropout.
        epochs: at most.
        max_steps: at most, or None.
        batch_tokens: frames and words, padding included, of one batch over all workers.
        pool_batches: sentences of like length are put together inside a pool of so many batches.
        checkpoint_steps: a checkpoint is kept after so many steps, and after each epoch.
        monitor: the validation figure that decides which epoch is best.
        patience: stop after so many epochs without a better one.
    """

    seed: Annotated[int, Field(ge=0)] = 0
    epochs: PositiveInt = 10
    max_steps: PositiveInt | None = None
    batch_tokens: PositiveInt = 2048
    pool_batches: PositiveInt = 100
    checkpoint_steps: PositiveInt = 1000
    monitor: Literal["cider", "bleu_4", "nats_per_token"] = "cider"
    patience: PositiveInt = 5


class SearchConfig(_Section):
    """How sentences are found.

    Attributes:
        beam_size: K; 1 is greedy.
        length_penalty: a sentence's score is its log-probability / length ** length_penalty.
        max_words: of a sentence.
    """

    beam_size: PositiveInt = 3
    length_penalty: Annotated[float, Field(ge=0)] = 0.7
    max_words: PositiveInt = 30


class Recipe(_Section):
    """Everything that determines a training besides its data."""

    name: str
    model: ModelConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    training: TrainingConfig = TrainingConfig()
    search: SearchConfig = SearchConfig()


def recipe_names() -> list[str]:
    """The recipes that come with the project."""
    folder = resources.files("training") / "recipes"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def load_recipe(name: str, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and change some of its values.

    Args:
        name: of a recipe that comes with the project, or the path of a TOML file.
        settings: "section.field=value" each; the value is read as TOML, else as text.

    Raises:
        UserError: there is no such recipe, or a value is not allowed.
    """
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UserError(f"{name}: no such recipe file")
        try:
            text, title = path.read_text(encoding="utf-8"), path.stem
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: not UTF-8 at byte {error.start}") from error
    elif name in recipe_names():
        text, title = (resources.files("training") / "recipes" / f"{name}.toml").read_text(), name
    else:
        known = ", ".join(recipe_names())
        raise UserError(f"recipe: {name!r}, allowed: {known}, or the path of a .toml file")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name}: not TOML: {error}") from error
    for setting in settings:
        _apply(tree, setting)
    return parse_recipe({"name": title, **tree}, name)


def parse_recipe(tree: Mapping[str, Any], where: str) -> Recipe:
    """Check a tree of plain values.

    Raises:
        UserError: names the place, the field, the value and what is allowed.
    """
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        value = "" if first["type"] == "missing" else f" {first['input']!r}:"
        message = first["msg"]
        if first["type"] == "extra_forbidden":
            message = f"no such field, allowed: {', '.join(_fields_beside(first['loc']))}"
        raise UserError(f"{where}: {field}:{value} {message}") from error


def _fields_beside(path: Sequence[int | str]) -> list[str]:
    """The fields that there are where a path looks for its last part."""
    section: Any = Recipe
    for part in path[:-1]:
        section = section.model_fields[part].annotation
    return list(section.model_fields)


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
    """The recipe as "section.field" -> value, for a table of parameters."""
    flat: dict[str, Any] = {}
    for name, value in recipe.model_dump().items():
        if isinstance(value, dict):
            flat.update({f"{name}.{field}": v for field, v in value.items()})
        else:
            flat[name] = value
    return flat
