"""In a step, the host never waits for the device: neither for a value nor for a size.

On a CPU nothing waits; what would wait on a GPU is counted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from intertitle.training.config.recipe import recipe_names
from intertitle.training.data.batch import Batch
from intertitle.training.trainer.loop import TrainingLoop
from tests.training.conftest import make_loop
from tests.training.varied import varied_data, varied_recipe

# Operations that return a value to the host, or a tensor whose size depends on values.
READS = (
    *("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"),
    *("unique_consecutive", "unique_dim", "repeat_interleave", "bincount", "item"),
)
METHODS = ("tolist", "numpy", "cpu", "item", "__bool__", "__float__", "__int__", "__index__")


class Waits(TorchDispatchMode):
    """Counts what would wait for a device."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.on_device = True
        for name in METHODS:
            patch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    def _counted(self, name: str, method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self.found[name] += self.on_device
            return method(*args, **options)

        return call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        is_mask = name.startswith("index") and any(
            part is not None and part.dtype in (torch.bool, torch.uint8)
            for index in args[1:]
            if isinstance(index, list | tuple)
            for part in index
            if isinstance(part, torch.Tensor)
        )
        self.found[name] += self.on_device and (name in READS or is_mask)
        return func(*args, **(kwargs or {}))


def waits_of(loop: TrainingLoop, patch: pytest.MonkeyPatch, epochs: float = 0.1) -> Counter[str]:
    """What a step waits for, from the moment when its batch is on the device."""
    loop.model.train()
    rows = loop._sampler.epoch(0)
    loop.train_step(rows[0], 0.1)
    waits, assemble = Waits(patch), loop._train.batch

    def on_host(chosen: Any) -> Batch:
        waits.on_device = False
        batch = assemble(chosen)
        waits.on_device = True
        return batch

    patch.setattr(loop._train, "batch", on_host)
    with waits:
        for step in range(1, 4):
            loop.train_step(rows[step], epochs)
    return +waits.found


CASES = [(name, ()) for name in recipe_names()] + [
    ("show_and_tell", ("objective.kind=teacher_forcing", "training.accumulate=2")),
    ("attend_and_tell", ("objective.kind=teacher_forcing",)),
    ("vqa_lstm", ("model.cell=gru",)),
    ("seq2seq_reversed", ("model.cell=rnn", "model.num_layers=2", "model.attention=additive")),
    ("s2vt", ("training.precision=float16",)),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_step_waits_for_nothing(
    name: str, settings: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = varied_recipe(name, *settings)
    loop = make_loop(*varied_data(tmp_path, recipe), recipe)
    with monkeypatch.context() as patch:
        waits = waits_of(loop, patch)
    assert waits == {}


def test_a_wait_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = varied_recipe("show_and_tell", "objective.kind=scheduled_sampling")
    loop = make_loop(*varied_data(tmp_path, recipe), recipe)
    with monkeypatch.context() as patch:
        waits = waits_of(loop, patch, recipe.training.epochs)
    # It draws words for the places that a mask selects, if there are any.
    assert waits["__bool__"] == 3
    assert waits["index"] >= 3
    assert waits["index_put_"] >= 3
