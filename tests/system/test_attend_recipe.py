"""The recipes that attend find the one cell of a grid, or frame, that a caption is about."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.system.test_recipes import train
from tests.training.conftest import COLOURS, DIM, SHAPES, Shown, write_data

NUM_CELLS = 6


def pointed_at(num_items: int) -> list[Shown]:
    """A thing in each cell of one or two frames; the caption is of the one that is pointed at."""
    rng = np.random.default_rng(0)
    looks = {word: rng.normal(size=DIM) for word in (*COLOURS, *SHAPES, "pointed at")}
    shown = []
    for n in range(num_items):
        grid = (int(rng.integers(1, 3)), NUM_CELLS)
        colours, shapes = rng.choice(COLOURS, grid), rng.choice(SHAPES, grid)
        cells = np.vectorize(lambda c, s: looks[c] + looks[s], signature="(),()->(d)")(
            colours, shapes
        )
        at = (int(rng.integers(grid[0])), int(rng.integers(NUM_CELLS)))
        cells[at] += looks["pointed at"]
        target = f"the {colours[at]} {shapes[at]}"
        split = "val" if n % 5 == 0 else "train"
        shown.append(Shown(f"item {n}", split, cells.astype(np.float32), (target,)))
    return shown


def mean_over_cells(shown: Shown) -> Shown:
    return replace(shown, features=shown.features.mean(1))


def cells_as_frames(shown: Shown) -> Shown:
    return replace(shown, features=shown.features.reshape(-1, DIM))


def test_it_tells_of_one_cell_among_many(tmp_path: Path) -> None:
    data = write_data(tmp_path, pointed_at(800))
    _, before, after = train(data, "attend_and_tell", "training.epochs=5")
    assert before <= 0.1
    assert after >= 0.95


def test_it_tells_of_one_frame_among_many(tmp_path: Path) -> None:
    data = write_data(tmp_path, map(cells_as_frames, pointed_at(800)))
    _, before, after = train(data, "attend_video", "training.epochs=5")
    assert before <= 0.1
    assert after >= 0.95


def test_the_mean_over_the_cells_does_not_tell(tmp_path: Path) -> None:
    data = write_data(tmp_path, map(mean_over_cells, pointed_at(800)))
    _, _, after = train(data, "show_and_tell", "training.epochs=5")
    assert after <= 0.4
