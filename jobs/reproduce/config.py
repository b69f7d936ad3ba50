"""Configuration of a table, read from TOML: corpora, features, runs to train and rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import MetricName
from intertitle.training.config.models import PositiveInt, Section, Share
from intertitle.training.config.recipe import change_search, load_recipe
from intertitle.training.config.toml_config import parse_toml, validate


def _different(seeds: list[int]) -> list[int]:
    if len({*seeds}) < len(seeds):
        raise ValueError("allowed: each seed once")
    return seeds


Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_different)]


class CorpusConfig(Section):
    """A corpus, described by arguments of `intertitle import`.

    Attributes:
        format: name of the format.
        source: paths of files and folders below the data folder.
        source_language: code of the source language, or None.
        target_language: code of the target language, or None.
        num_clips: number of clips to draw, for the format "rendered"; None for its default.
        frame_labels: whether clips have one label per frame, for the format "rendered".
        num_train: number of training examples to keep, to simulate scarce data; None keeps all.
    """

    format: str
    source: list[str] = Field(default_factory=list)
    source_language: str | None = None
    target_language: str | None = None
    num_clips: PositiveInt | None = None
    frame_labels: bool = False
    num_train: PositiveInt | None = None


class StoreConfig(Section):
    """A feature store, described by arguments of `intertitle precompute`.

    Attributes:
        corpus: name of the corpus in this file.
        backbone: name of the backbone.
        kind: "pooled" for one vector per frame, or "grid" for a grid of vectors.
        frames: number of frames of a video, spread evenly over it; unused if `every` is set.
        every: interval between the selected frames, counted in frames, or None.
    """

    corpus: str
    backbone: str = "efficientnet_lite0"
    kind: Literal["pooled", "grid"] = "pooled"
    frames: PositiveInt = 8
    every: PositiveInt | None = None


class RunsConfig(Section):
    """A group of runs that differ only in their seed.

    Attributes:
        recipe: name of the recipe.
        corpus, features: names of the corpus and of the feature store in this file.
        seeds: seeds of the runs; each run is named after the group and its seed.
        set: changes to the recipe, each "section.field=value".
        init_from: name of another group in this file, or None. Each run is initialised with the
            weights of the run in that group that has the same seed or, without one, the first.
    """

    recipe: str
    corpus: str
    features: str | None = None
    seeds: Seeds = Field(default=[0])
    set: list[str] = Field(default_factory=list)
    init_from: str | None = None


class RescoringConfig(Section):
    """Rescoring of the n-best lists of another run.

    Attributes:
        runs: name of the group of runs whose first run generates the lists.
        nbest: number of sentences per example.
        weight: weight of the scores from that run, 0 to 1.
    """

    runs: str
    nbest: PositiveInt = 12
    weight: Share = 0.5


class RowConfig(Section):
    """A row of the table, which evaluates a group of runs.

    Attributes:
        label: label of the row.
        runs: name of the group; without `together`, each of its runs is evaluated by itself.
        together: number of runs that are evaluated as one ensemble; 1 for no ensemble.
        search: fields of the recipe's search section to change, with their values.
        split: name of the split to evaluate on.
        corpus, features: names of another corpus and feature store to evaluate on; None for those
            of the training.
        rescoring: lists of another run to rescore, instead of generating sentences; or None.
        published: scores in a paper, by metric, for comparison; they were measured on other data.
    """

    label: str
    runs: str
    together: PositiveInt = 1
    search: dict[str, Any] = Field(default_factory=dict)
    split: str = "val"
    corpus: str | None = None
    features: str | None = None
    rescoring: RescoringConfig | None = None
    published: dict[MetricName, float] = Field(default_factory=dict)


class TableConfig(Section):
    """A table of results.

    Attributes:
        title: title of the table.
        metrics: metrics, which are the columns.
        corpora, stores, runs: parts by name; other parts refer to these names.
        rows: rows in their order.
    """

    title: str
    metrics: list[MetricName] = Field(min_length=1)
    corpora: dict[str, CorpusConfig]
    stores: dict[str, StoreConfig] = Field(default_factory=dict)
    runs: dict[str, RunsConfig]
    rows: list[RowConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for store in self.stores.values():
            _check_name("corpus", store.corpus, self.corpora)
        for runs in self.runs.values():
            _check_name("corpus", runs.corpus, self.corpora)
            _check_name("features", runs.features, self.stores)
            _check_name("init_from", runs.init_from, self.runs)
        for name in self.runs:
            self._check_beginning(name)
        for row in self.rows:
            _check_name("runs", row.runs, self.runs)
            _check_name("corpus", row.corpus, self.corpora)
            _check_name("features", row.features, self.stores)
            if row.rescoring:
                _check_name("rescoring.runs", row.rescoring.runs, self.runs)
                if row.search or row.together > 1:
                    raise ValueError(
                        f"row {row.label!r}: rescoring, allowed: without search and together"
                    )
            num_runs = len(self.runs[row.runs].seeds)
            if row.together > num_runs:
                raise ValueError(f"row {row.label!r}: together {row.together} of {num_runs} runs")
        return self

    def _check_beginning(self, name: str) -> None:
        """Check that `init_from` does not lead back to the same runs.

        Raises:
            ValueError: it does.
        """
        path = [name]
        while begin := self.runs[path[-1]].init_from:
            if begin in path:
                raise ValueError(f"runs {name!r}: init_from {begin!r}, which begins with them")
            path.append(begin)


def _check_name(field: str, name: str | None, known: dict[str, Any]) -> None:
    if name is not None and name not in known:
        raise ValueError(f"{field} {name!r}, allowed: {', '.join(known) or 'none'}")


def table_names() -> list[str]:
    """List the names of the tables that come with Intertitle."""
    folder = resources.files("intertitle.jobs") / "reproduce" / "tables"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def load_table(name: str) -> TableConfig:
    """Read the configuration of a table.

    Args:
        name: name of a table that comes with Intertitle, or path of a .toml file.

    Raises:
        UserError: there is no such table, or a value is not allowed.
    """
    if name.endswith(".toml"):
        data = Path(name).read_bytes()
    elif name in table_names():
        data = (
            resources.files("intertitle.jobs") / "reproduce" / "tables" / f"{name}.toml"
        ).read_bytes()
    else:
        known = ", ".join(table_names())
        raise UserError(f"table: {name!r}, allowed: {known}, or the path of a .toml file")
    config = validate(TableConfig, parse_toml(data, name), name)
    for runs_name, runs in config.runs.items():
        with _about(f"{name}: runs {runs_name!r}"):
            recipe = load_recipe(runs.recipe, runs.set)
        for row in config.rows:
            if row.runs == runs_name:
                with _about(f"{name}: row {row.label!r}"):
                    change_search(recipe, row.search)
    return config


@contextmanager
def _about(part: str) -> Iterator[None]:
    """Prefix the message of a UserError with the part of the table that is invalid."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{part}: {error}") from error
