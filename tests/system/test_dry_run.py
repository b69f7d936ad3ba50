"""Every recipe that comes with the project, as it is, takes a step, is measured and answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.training.config.recipe import Recipe, load_recipe, recipe_names
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.task import Task
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.build import task_of
from intertitle.training.runs.evaluate_run import measure
from intertitle.training.trainer.events import EpochReport, Report
from tests.training.conftest import (
    Shown,
    coloured_things,
    make_loop,
    open_data_ref,
    write_data,
    write_features,
)


def some_data(folder: Path, task: Task) -> DataRef:
    """A few examples of a task."""
    shown = [one_shown(thing, task) for thing in coloured_things(20)]
    if task.visual_input == "nothing":
        write_corpus(folder, [], [as_example(s, None, task) for s in shown])
        return open_data_ref(folder, None, "nothing")
    if not task.has_source:
        return write_data(folder, shown)
    write_data(folder, shown)
    store = write_features(folder / "seen", shown)
    from intertitle.pipeline.corpus import Corpus

    items = Corpus(folder / "corpus").items()
    write_corpus(folder / "asked", items, [as_example(s, s.key, task) for s in shown])
    return open_data_ref(folder / "asked", store, task.visual_input)


def one_shown(thing: Shown, task: Task) -> Shown:
    features, targets = thing.features, thing.targets
    if task.visual_input == "grid":
        features = np.repeat(features[:, None], 4, 1)
    if task.output == "label":
        targets = (targets[0].split()[1],)
    elif task.output == "label_per_frame":
        targets = tuple("odd" if n % 2 else "even" for n in range(len(features)))
    return replace(thing, features=features, targets=targets)


def as_example(thing: Shown, item: str | None, task: Task) -> Example:
    source = "which one is it ?" if task.has_source else None
    return Example(thing.key, thing.split, item, source, thing.targets)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_runs_from_its_data_to_its_scores(name: str, tmp_path: Path) -> None:
    recipe: Recipe = load_recipe(name, ["training.epochs=1", "tokenizer.min_count=1"])
    task = task_of(recipe.model)
    data = some_data(tmp_path, task)
    words = build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task))
    reports: list[Report] = []
    loop = make_loop(data, words, recipe)
    loop.run(reports.append)
    (epoch,) = [report for report in reports if isinstance(report, EpochReport)]
    assert f"val/{recipe.training.monitor}" in epoch.figures
    assert epoch.samples
    loop.model.load_state_dict(loop.checkpoint().best)
    trained = TrainedModel(loop.model.eval(), words, recipe, data, loop.progress.step)
    trained.write(tmp_path / "model")
    again = TrainedModel.read(tmp_path / "model")
    evaluations = [measure(one, Data(data), "val", recipe.search) for one in (trained, again)]
    assert evaluations[0] == evaluations[1]
    assert evaluations[0].scores.values["nats_per_token"] > 0
