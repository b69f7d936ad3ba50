"""What a table's TOML file says: corpora and features, runs to train, rows that measure them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipeline.errors import UserError
from training.config import change_search, load_recipe
from training.evaluation.statistics import METRICS
from training.models.config import PositiveInt, Section, Share


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"allowed: {', '.join(METRICS)}")
    return name


def _different(seeds: list[int]) -> list[int]:
    if len({*seeds}) < len(seeds):
        raise ValueError("allowed: each seed once")
    return seeds


Metric = Annotated[str, AfterValidator(_known_metric)]
Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[list[Seed], Field(min_length=1), AfterValidator(_different)]


class CorpusConfig(Section):
    """A corpus, by the arguments of `intertitle import`.

    Attributes:
        source: files and folders of the data's folder.
        num_train: only the first so many examples are kept to learn from, where data is to be
            scarce.
    """

    format: str
    source: list[str] = Field(default_factory=list)
    source_language: str | None = None
    target_language: str | None = None
    num_clips: PositiveInt = 400
    frame_labels: bool = False
    num_train: PositiveInt | None = None


class StoreConfig(Section):
    """Features, by the arguments of `intertitle precompute`.

    Attributes:
        corpus: its name in this file.
        kind: a vector a frame, or a grid of them.
        frames: of a video, spread over its time; or
        every: so many.
    """

    corpus: str
    backbone: str = "efficientnet_lite0"
    kind: Literal["pooled", "grid"] = "pooled"
    frames: PositiveInt = 8
    every: PositiveInt | None = None


class RunsConfig(Section):
    """Trainings that differ in their seed.

    Attributes:
        recipe: its name.
        corpus, features: their names in this file.
        seeds: a run each, named after these runs and its seed.
        set: changes of the recipe, "section.field=value" each.
        init_from: other runs of this file: each of these begins with that of its seed, or with the
            first.
    """

    recipe: str
    corpus: str
    features: str | None = None
    seeds: Seeds = Field(default=[0])
    set: list[str] = Field(default_factory=list)
    init_from: str | None = None


class RescoringConfig(Section):
    """Lists of other runs, ranked anew.

    Attributes:
        runs: whose first writes the lists.
        nbest: sentences of each example.
        weight: of the scores that they had there.
    """

    runs: str
    nbest: PositiveInt = 12
    weight: Share = 0.5


class RowConfig(Section):
    """A row.

    Attributes:
        label: what stands in front.
        runs: that are measured, each by itself; or
        together: so many of them as one.
        search: fields of the recipe's search that are otherwise here.
        split: to measure on.
        corpus, features: of another data set than that of the training.
        rescoring: instead of sentences of its own.
        published: figures of a paper, to stand beside, on other data.
    """

    label: str
    runs: str
    together: PositiveInt = 1
    search: dict[str, Any] = Field(default_factory=dict)
    split: str = "val"
    corpus: str | None = None
    features: str | None = None
    rescoring: RescoringConfig | None = None
    published: dict[Metric, float] = Field(default_factory=dict)


class TableConfig(Section):
    """A table.

    Attributes:
        title: of it.
        metrics: its columns.
        corpora, stores, runs: by the names that the rest calls them.
        rows: in their order.
    """

    title: str
    metrics: list[Metric] = Field(min_length=1)
    corpora: dict[str, CorpusConfig]
    stores: dict[str, StoreConfig] = Field(default_factory=dict)
    runs: dict[str, RunsConfig]
    rows: list[RowConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for one in self.stores.values():
            _check_name("corpus", one.corpus, self.corpora)
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
            there = len(self.runs[row.runs].seeds)
            if row.together > there:
                raise ValueError(f"row {row.label!r}: together {row.together} of {there} runs")
        return self

    def _check_beginning(self, name: str) -> None:
        """That runs do not begin, in the end, with themselves."""
        path = [name]
        while begin := self.runs[path[-1]].init_from:
            if begin in path:
                raise ValueError(f"runs {name!r}: init_from {begin!r}, which begins with them")
            path.append(begin)


def _check_name(field: str, name: str | None, known: dict[str, Any]) -> None:
    if name is not None and name not in known:
        raise ValueError(f"{field} {name!r}, allowed: {', '.join(known) or 'none'}")


def table_names() -> list[str]:
    """The tables that come with the project."""
    folder = resources.files("jobs") / "tables"
    return sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml"))


def load_table(name: str) -> TableConfig:
    """Read a table that comes with the project, or the path of a .toml file.

    Raises:
        UserError: there is none, or a value is not allowed.
    """
    if name.endswith(".toml"):
        data = Path(name).read_bytes()
    elif name in table_names():
        data = (resources.files("jobs") / "tables" / f"{name}.toml").read_bytes()
    else:
        known = ", ".join(table_names())
        raise UserError(f"table: {name!r}, allowed: {known}, or the path of a .toml file")
    try:
        config = TableConfig.model_validate(tomllib.loads(data.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{name}: not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        where = f"{name}: {field}:" if field else f"{name}:"
        shown = "" if first["type"] == "missing" or not field else f" {first['input']!r}:"
        raise UserError(f"{where}{shown} {first['msg']}") from error
    for runs_name, runs in config.runs.items():
        with _about(f"{name}: runs {runs_name!r}"):
            recipe = load_recipe(runs.recipe, runs.set)
        for row in config.rows:
            if row.runs == runs_name:
                with _about(f"{name}: row {row.label!r}"):
                    change_search(recipe, row.search)
    return config


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Whose mistake it is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error
