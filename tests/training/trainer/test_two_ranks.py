"""Two workers, in processes of their own, against one that has the same batches."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from tests.training.conftest import make_loop
from tests.training.varied import varied_data, varied_recipe
from tests.training.workers import two_workers

NAMES = ("show_and_tell", "seq2seq_attention", "char_lm")
STEPS = 100

WORKER = """
def recorded(loop, nats):
    step = loop.train_step

    def record(rows, epochs):
        result = step(rows, epochs)
        nats.append(result.tolist()[0])
        return result

    loop.train_step = record
    return loop

for name, training in given["trainings"].items():
    data, words = DataRef.from_dict(training["data"]), Vocabs.from_json(training["words"])
    given["recipe"], nats = training["recipe"], []
    recorded(make("recipe"), nats).run()
    # One of them is asked to stop before its fourth step.
    stopped = make("recipe")
    wishes = iter([False] * 3 + [True] * 9)
    stopped.run(should_stop=(lambda: next(wishes)) if ranks.rank else (lambda: False))
    assert stopped.stopped
    left = {"nats": nats, "stopped": stopped.progress.step}
    (out / f"{name}-{ranks.rank}.json").write_text(json.dumps(left))
"""


def losses_alone(data: DataRef, words: Vocabs, recipe: Recipe) -> list[float]:
    loop = make_loop(data, words, recipe)
    nats: list[float] = []
    step = loop.train_step

    def record(rows: object, epochs: float) -> object:
        result = step(rows, epochs)  # type: ignore[arg-type]
        nats.append(result.tolist()[0])
        return result

    loop.train_step = record  # type: ignore[method-assign, assignment]
    loop.run()
    return nats


def recipe_of(name: str) -> Recipe:
    settings = ["model.dropout=0", "training.epochs=1000", "training.patience=1000"]
    if name == "show_and_tell":
        settings.append("model.feature_dropout=0")
    if name == "char_lm":
        settings.append("model.embedding_dropout=0")
    return varied_recipe(name, *settings, f"training.max_steps={STEPS}")


@pytest.fixture(scope="module")
def trainings(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[list[float], list[dict[str, Any]]]]:
    """Losses of one worker, and what each of two has left, of each recipe: started once for all."""
    folder = tmp_path_factory.mktemp("ranks")
    recipes = {name: recipe_of(name) for name in NAMES}
    given = {name: varied_data(folder / name, recipe) for name, recipe in recipes.items()}
    sent = {
        name: {
            "data": asdict(data),
            "words": words.to_json(),
            "recipe": recipes[name].model_dump(),
        }
        for name, (data, words) in given.items()
    }
    with two_workers(WORKER, *given[NAMES[0]], folder, trainings=sent):
        alone = {name: losses_alone(*given[name], recipes[name]) for name in NAMES}
    return {
        name: (
            alone[name],
            [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)],
        )
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_have_the_losses_of_one(
    name: str, trainings: dict[str, tuple[list[float], list[dict[str, Any]]]]
) -> None:
    expected, left = trainings[name]
    losses = [sum(parts) for parts in zip(*(one["nats"] for one in left), strict=True)]
    assert len(losses) == STEPS
    # Sums of the same numbers in another order, from which 100 steps lead further apart.
    assert losses[:20] == pytest.approx(expected[:20], rel=1e-5)
    assert losses == pytest.approx(expected, rel=1e-3)
    # The vote is known to all a step later.
    assert [one["stopped"] for one in left] == [4, 4]
