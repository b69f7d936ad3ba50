"""Configuration of a retraining, read from a TOML file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.importers.dispatch import given_options
from intertitle.pipeline.storage.format_version import FormatVersion
from intertitle.pipeline.storage.paths import is_url
from intertitle.training.config.gate import GateConfig
from intertitle.training.config.models import PositiveInt, Section, Share
from intertitle.training.config.toml_config import parse_toml, validate

RETRAINING_FORMAT = FormatVersion("retraining configuration", 1)
# Version of a file that does not name one: people write these files.
_DEFAULT_VERSION = 1


def _plain_name(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError("allowed: letters, digits, '_', '.' and '-'")
    return name


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


# A name or a list of them.
Names = Annotated[list[str], BeforeValidator(_as_list)]


class DataConfig(Section):
    """Training data; paths are relative to the file's folder.

    Attributes:
        format: format for `intertitle import`; None if the corpus is updated by other means.
        source: data to import: a folder, a prefix of an object store, or a manifest.
        source_language: code of the source language, as for `intertitle import`, or None.
        target_language: code of the target language, as for `intertitle import`, or None. It
            determines how metrics split text into words.
        corpus: folder or URL of the imported corpus.
        features: folder or URL of the feature store, or a list of several, whose features are
            concatenated; empty for text only.
        backbone: name of the network, as for `intertitle precompute`, or a list with that of each
            store.
        kind: "pooled" or "grid", the option --features of `intertitle precompute`.
        frames: number of frames per video, as for `intertitle precompute`.
        allow_failed: share of the items that may be in quarantine.
    """

    format: str | None = None
    source: list[str] = Field(default_factory=list)
    source_language: str | None = None
    target_language: str | None = None
    corpus: str
    features: Names = Field(default_factory=list)
    backbone: Names = Field(default_factory=lambda: ["efficientnet_lite0"])
    kind: Literal["pooled", "grid"] = "pooled"
    frames: PositiveInt = 8
    allow_failed: Share = 0.05

    @property
    def languages(self) -> dict[str, str | None]:
        """Codes of the source and the target language, as options of the import."""
        return {"source_language": self.source_language, "target_language": self.target_language}

    @model_validator(mode="after")
    def _one_network_each(self) -> DataConfig:
        if self.features and len(self.backbone) != len(self.features):
            raise ValueError(
                f"backbone: {len(self.backbone)} of them, allowed: one for each of the "
                f"{len(self.features)} in features"
            )
        return self

    @model_validator(mode="after")
    def _check_languages(self) -> DataConfig:
        if self.format is None:
            if any(self.languages.values()):
                raise ValueError("source_language, target_language: allowed with a format only")
            return self
        try:
            given_options(self.format, self.languages)
        except UserError as error:
            raise ValueError(str(error)) from error
        return self


class TrainConfig(Section):
    """Training of a challenger.

    Attributes:
        recipe: name of a recipe, or path of a .toml file.
        set: changes of the recipe, each "section.field=value".
        init_from: initial weights: "champion" for those of the champion, "scratch" for new ones.
        workers: number of workers.
        checkpoints: folder for checkpoints that all workers can access.
    """

    recipe: str
    set: list[str] = Field(default_factory=list)
    init_from: Literal["champion", "scratch"] = "champion"
    workers: PositiveInt = 1
    checkpoints: str


class FrozenConfig(Section):
    """Fixed examples on which champion and challenger are evaluated.

    Attributes:
        corpus: folder or URL of the corpus.
        features: folder or URL of its feature store, or a list of the length of
            `data.features`; missing features are computed. Empty uses the stores of the training.
        split: name of the split.
        beam: beam size; None uses the recipe's.
    """

    corpus: str
    features: Names = Field(default_factory=list)
    split: str = "test"
    beam: PositiveInt | None = None


class Hook(Section):
    """Receiver of a slot's outcome as JSON: a command or a URL, of which exactly one is set.

    Attributes:
        command: command and arguments; the outcome is its standard input.
        url: URL to which the outcome is posted.
    """

    command: list[str] | None = None
    url: str | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Hook:
        if (self.command is None) == (self.url is None):
            raise ValueError("allowed: either command or url")
        return self


class HooksConfig(Section):
    """Hooks called after a slot.

    Attributes:
        promoted: hook called after a challenger was promoted.
        refused: hook called after a challenger was refused.
        failed: hook called after a slot failed.
    """

    promoted: Hook | None = None
    refused: Hook | None = None
    failed: Hook | None = None


class RetrainConfig(Section):
    """Retraining of one model.

    Attributes:
        model: name of the registered model.
        data: training data.
        train: training of a challenger.
        frozen: fixed examples for the evaluation.
        gate: conditions for a promotion.
        hooks: hooks called after a slot.
    """

    model: Annotated[str, AfterValidator(_plain_name)]
    data: DataConfig
    train: TrainConfig
    frozen: FrozenConfig
    gate: GateConfig = GateConfig()
    hooks: HooksConfig = HooksConfig()

    @model_validator(mode="after")
    def _as_many_stores(self) -> RetrainConfig:
        if self.frozen.features and len(self.frozen.features) != len(self.data.features):
            raise ValueError(
                f"frozen.features: {len(self.frozen.features)} of them, allowed: the number of "
                f"data.features, {len(self.data.features)}"
            )
        return self


def load_config(path: Path) -> RetrainConfig:
    """Read a retraining's TOML file and make its paths absolute.

    The field `version` is the version of the format; a file without it has version 1.

    Raises:
        UserError: the file is not TOML, has another version, or a value is not allowed.
    """
    tree = parse_toml(path.read_bytes(), path)
    RETRAINING_FORMAT.check(path, tree.pop("version", _DEFAULT_VERSION))
    return _with_paths_from(validate(RetrainConfig, tree, path), path.absolute().parent)


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
                    "features": [at(store) for store in data.features],
                }
            ),
            "train": train.model_copy(
                update={"recipe": recipe, "checkpoints": at(train.checkpoints)}
            ),
            "frozen": frozen.model_copy(
                update={
                    "corpus": at(frozen.corpus),
                    "features": [at(store) for store in frozen.features],
                }
            ),
        }
    )
