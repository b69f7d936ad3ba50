"""What a retraining's TOML file says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator
from upath import UPath

from pipeline.errors import UserError
from pipeline.location import is_url, location
from training.models.config import PositiveInt, Section, Share
from training.tracking.gate import GateConfig


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("allowed: letters, digits, '_', '.' and '-'")
    return name


class DataConfig(Section):
    """What there is to learn from; paths are relative to the file's folder.

    Attributes:
        format: of `intertitle import`; without it the corpus is kept up by others.
        source: what to import: a folder, an object store's prefix, a manifest.
        corpus: that it becomes.
        features: the store of its features; none for text alone.
        backbone, kind, frames: as for `intertitle precompute`.
        allow_failed: share of the items that may be in quarantine.
    """

    format: str | None = None
    source: list[str] = Field(default_factory=list)
    corpus: str
    features: str | None = None
    backbone: str = "efficientnet_lite0"
    kind: Literal["pooled", "grid"] = "pooled"
    frames: PositiveInt = 8
    allow_failed: Share = 0.05


class TrainConfig(Section):
    """How a challenger is trained.

    Attributes:
        recipe: its name, or the path of a .toml file.
        set: changes of it, "section.field=value" each.
        init_from: "champion": from its weights; "scratch".
        workers: together.
        checkpoints: a folder that all workers reach.
    """

    recipe: str
    set: list[str] = Field(default_factory=list)
    init_from: Literal["champion", "scratch"] = "champion"
    workers: PositiveInt = 1
    checkpoints: str


class FrozenConfig(Section):
    """The examples on which champion and challenger are measured: always the same.

    Attributes:
        corpus: its folder or URL.
        features: the store of its features, computed where they are missing.
        split: of the corpus.
        beam: sentences kept; none as in the recipe.
    """

    corpus: str
    features: str | None = None
    split: str = "test"
    beam: PositiveInt | None = None


class Hook(Section):
    """Whom to tell: a command, which reads the outcome as JSON, or a URL that it is posted to."""

    command: list[str] | None = None
    url: str | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Hook:
        if (self.command is None) == (self.url is None):
            raise ValueError("allowed: either command or url")
        return self


class HooksConfig(Section):
    """Told after a challenger was promoted or refused, or a slot failed."""

    promoted: Hook | None = None
    refused: Hook | None = None
    failed: Hook | None = None


class RetrainConfig(Section):
    """A model that is trained again.

    Attributes:
        model: its name in the registry.
    """

    model: Annotated[str, AfterValidator(_plain_name)]
    data: DataConfig
    train: TrainConfig
    frozen: FrozenConfig
    gate: GateConfig = GateConfig()
    hooks: HooksConfig = HooksConfig()


def load_config(path: Path) -> RetrainConfig:
    """Read a retraining's file, its paths made absolute.

    Raises:
        UserError: it can't be read, or a value is not allowed.
    """
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not TOML: {error}") from error
    try:
        config = RetrainConfig.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        shown = "" if first["type"] == "missing" else f" {first['input']!r}:"
        raise UserError(f"{path}: {field}:{shown} {first['msg']}") from error
    return _with_paths_from(config, path.absolute().parent)


def _with_paths_from(config: RetrainConfig, folder: Path) -> RetrainConfig:
    def at(place: str | None) -> str | None:
        return place if place is None or is_url(place) else str(folder / place)

    data, train, frozen = config.data, config.train, config.frozen
    recipe = at(train.recipe) if train.recipe.endswith(".toml") else train.recipe
    return config.model_copy(
        update={
            "data": data.model_copy(
                update={
                    "source": [at(source) for source in data.source],
                    "corpus": at(data.corpus),
                    "features": at(data.features),
                }
            ),
            "train": train.model_copy(
                update={"recipe": recipe, "checkpoints": at(train.checkpoints)}
            ),
            "frozen": frozen.model_copy(
                update={"corpus": at(frozen.corpus), "features": at(frozen.features)}
            ),
        }
    )


def place(path: str | None) -> UPath | None:
    """A folder or URL of the file."""
    return None if path is None else location(path)
