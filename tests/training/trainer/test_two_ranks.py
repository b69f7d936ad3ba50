"""Two workers, in processes of their own, against one that has the same batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from tests.training.conftest import make_loop
from tests.training.varied import varied_data, varied_recipe
from tests.training.workers import two_workers

STEPS = 200

WORKER = """
loop, nats = make("recipe"), []
step = loop.train_step

def record(rows, epochs):
    result = step(rows, epochs)
    nats.append(result.tolist()[0])
    return result

loop.train_step = record
loop.run()
# One of them is asked to stop before its fourth step.
stopped = make("recipe")
wishes = iter([False] * 3 + [True] * 9)
stopped.run(should_stop=(lambda: next(wishes)) if ranks.rank else (lambda: False))
assert stopped.stopped
left = {"nats": nats, "stopped": stopped.progress.step}
(out / f"{ranks.rank}.json").write_text(json.dumps(left))
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


@pytest.mark.parametrize("name", ["show_and_tell", "seq2seq_attention", "char_lm"])
def test_two_workers_have_the_losses_of_one(name: str, tmp_path: Path) -> None:
    settings = ["model.dropout=0", "training.epochs=1000", "training.patience=1000"]
    if name == "show_and_tell":
        settings.append("model.feature_dropout=0")
    if name == "char_lm":
        settings.append("model.embedding_dropout=0")
    recipe = varied_recipe(name, *settings, f"training.max_steps={STEPS}")
    data, words = varied_data(tmp_path, recipe)
    with two_workers(WORKER, data, words, tmp_path, recipe=recipe.model_dump()):
        expected = losses_alone(data, words, recipe)
    left = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    losses = [sum(parts) for parts in zip(*(one["nats"] for one in left), strict=True)]
    assert len(losses) == STEPS
    # Sums of the same numbers in another order, from which 200 steps lead further apart.
    assert losses[:20] == pytest.approx(expected[:20], rel=1e-5)
    assert losses == pytest.approx(expected, rel=1e-3)
    # The vote is known to all a step later.
    assert [one["stopped"] for one in left] == [4, 4]
