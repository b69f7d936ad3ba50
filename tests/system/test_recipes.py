"""Each recipe, made small, learns what it should and cannot learn what it can't."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus
from intertitle.training.config.recipe import load_recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.evaluation.answers import answer_examples
from intertitle.training.models.build import task_of
from intertitle.training.trainer.loop import TrainingLoop
from tests.training.conftest import DIM, Shown, coloured_things, make_loop, split_of, write_data


def train(data: DataRef, name: str, *settings: str) -> tuple[TrainingLoop, float, float]:
    """A recipe learned from some data: its share of right sentences before and after."""
    recipe = load_recipe(
        name,
        [
            "model.embedding_size=64",
            "model.hidden_size=64",
            "model.dropout=0.1",
            "tokenizer.min_count=1",
            "tokenizer.max_tokens=8",
            "optimizer.learning_rate=5e-3",
            "optimizer.average_decay=0",
            "training.batch_tokens=128",
            "search.max_tokens=8",
            *settings,
        ],
    )
    words = build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task_of(recipe.model)))
    loop = make_loop(data, words, recipe)
    val = split_of(data, "val", words)

    def share_right() -> float:
        answers = answer_examples(loop.model.eval(), val, range(len(val.examples)), recipe.search)
        spoken = words.target
        right = [
            answer.texts[0] in (spoken.decode(spoken.encode(target)) for target in example.targets)
            for answer, example in zip(answers, val.examples, strict=True)
        ]
        return sum(right) / len(right)

    before = share_right()
    loop.run()
    loop.model.load_state_dict(loop.checkpoint().best)
    return loop, before, share_right()


@pytest.mark.parametrize("name", ["show_and_tell", "mean_pool_video", "s2vt"])
def test_a_recipe_learns_to_say_what_is_seen(name: str, tmp_path: Path) -> None:
    # A sentence that names one thing whatever is seen is right for a sixteenth of them.
    loop, before, after = train(
        write_data(tmp_path, coloured_things(800)), name, "training.epochs=6"
    )
    assert before <= 0.1
    assert after >= 0.95
    assert loop.progress.best_value is not None and loop.progress.best_value > 5


def films_told_by_their_order(num_films: int) -> list[Shown]:
    """Films and the same films backwards: "it opens", "it closes"."""
    rng = np.random.default_rng(0)
    way = rng.normal(size=DIM)
    shown = []
    for n in range(num_films):
        place, noise = rng.normal(size=DIM), rng.normal(scale=0.1, size=(6, DIM))
        opens = (place + np.linspace(-1, 1, 6)[:, None] * way + noise).astype(np.float32)
        split = "val" if n % 4 == 0 else "train"
        shown.append(Shown(f"{n} forwards", split, opens, ("it opens",)))
        shown.append(
            replace(
                shown[-1], key=f"{n} backwards", features=opens[::-1].copy(), targets=("it closes",)
            )
        )
    return shown


@pytest.mark.parametrize(
    ("name", "least", "most"), [("s2vt", 0.95, 1.0), ("mean_pool_video", 0.35, 0.65)]
)
def test_only_s2vt_tells_a_film_from_the_same_film_backwards(
    name: str, least: float, most: float, tmp_path: Path
) -> None:
    data = write_data(tmp_path, films_told_by_their_order(300))
    _, _, after = train(data, name, "training.epochs=4", "training.monitor=nats_per_token")
    assert least <= after <= most
