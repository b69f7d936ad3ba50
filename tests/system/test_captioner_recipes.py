"""The recipes of captioners that see one vector, made small, learn what they should."""

from pathlib import Path

import numpy as np
import pytest

from tests.system.test_recipes import train
from tests.training.conftest import DIM, Shown, coloured_things, write_data


@pytest.mark.parametrize("name", ["neuraltalk", "m_rnn", "lrcn", "recurrent_visual"])
def test_a_recipe_learns_to_say_what_is_seen(name: str, tmp_path: Path) -> None:
    # A sentence that names one thing whatever is seen is right for a sixteenth of them.
    loop, before, after = train(
        write_data(tmp_path, coloured_things(800)), name, "training.epochs=6"
    )
    assert before <= 0.1
    assert after >= 0.95
    assert loop.progress.best_value is not None and loop.progress.best_value > 5


def things_in_places(num_items: int) -> list[Shown]:
    """Animals somewhere, with a colour that nobody can see and a verb."""
    things, places = ("dog", "cat", "horse", "bird"), ("park", "street", "field", "river")
    rng = np.random.default_rng(0)
    looks = {word: rng.normal(size=DIM) for word in (*things, *places)}
    shown = []
    for n in range(num_items):
        thing, place = things[n % 4], places[n // 4 % 4]
        colour, verb = rng.choice(["brown", "white"]), rng.choice(["sits", "is sitting"])
        noise = rng.normal(scale=0.2, size=(1, DIM))
        targets = (f"A {thing} in a {place}.", f"A {colour} {thing} {verb} in a {place}.")
        features = (looks[thing] + looks[place] + noise).astype(np.float32)
        shown.append(Shown(f"item {n}", "train" if n % 5 else "val", features, targets))
    return shown


def test_the_template_is_filled_with_what_is_seen(tmp_path: Path) -> None:
    # Again a sixteenth would be right whatever is seen.
    _, before, after = train(
        write_data(tmp_path, things_in_places(800)), "template", "training.epochs=3"
    )
    assert before <= 0.1
    assert after >= 0.95
