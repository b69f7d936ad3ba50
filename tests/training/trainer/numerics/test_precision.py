"""Training in float16 and bfloat16: the type that is computed in, the gradients, the scale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models import rnn
from intertitle.training.trainer.checkpoint import Checkpoint
from intertitle.training.trainer.loop import TrainingLoop
from intertitle.training.trainer.numerics import precision as precision_module
from intertitle.training.trainer.numerics.precision import FIRST_SCALE, Precision, precision_of
from tests.training.conftest import make_loop, small_recipe
from tests.training.trainer.test_loop import assert_same

HALVES: tuple[Precision, ...] = ("bfloat16", "float16")
# Relative error of a parameter's gradient; the types have 8 and 11 significant bits.
LARGEST_ERROR = {"bfloat16": 0.1, "float16": 0.02}


def recipe_in(precision: str, *settings: str, name: str = "s2vt") -> Recipe:
    return small_recipe(name, f"training.precision={precision}", *settings)


def without_dropout(precision: str, name: str, cell: str) -> Recipe:
    settings = ("model.dropout=0", "model.feature_dropout=0", f"model.cell={cell}")
    return recipe_in(precision, *settings, name=name)


def gradients(loop: TrainingLoop, patch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The gradients of a step, before they are clipped."""
    found: dict[str, torch.Tensor] = {}

    def take(*_: Any) -> torch.Tensor:
        for name, parameter in loop.model.named_parameters():
            assert parameter.grad is not None
            found[name] = parameter.grad.clone()
        return torch.ones(())

    patch.setattr(torch.nn.utils, "clip_grad_norm_", take)
    loop.model.train()
    loop.train_step(loop._sampler.epoch(0)[0], 0.5)
    return found


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize(
    ("name", "cell"),
    [("s2vt", "lstm"), ("show_and_tell", "gru"), ("m_rnn", "rnn"), ("lrcn", "lstm")],
)
def test_every_gradient_is_near_that_of_float32(
    precision: Precision,
    name: str,
    cell: str,
    things: DataRef,
    words: Vocabs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact, near = (
        gradients(make_loop(things, words, without_dropout(kind, name, cell)), monkeypatch)
        for kind in ("float32", precision)
    )
    errors = {n: float((near[n] - exact[n]).norm() / exact[n].norm()) for n in exact}
    assert max(errors.values()) < LARGEST_ERROR[precision], errors
    assert max(errors.values()) > 1e-5


@pytest.mark.parametrize("precision", HALVES)
def test_recurrent_layers_compute_in_the_type_of_the_recipe(
    precision: Precision, things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    types: set[torch.dtype] = set()
    run: Callable[..., Any] = torch.lstm

    def spy(inputs: torch.Tensor, state: Any, weights: Any, *options: Any) -> Any:
        # Autocast would replace bfloat16 by float16 inside.
        assert not torch.is_autocast_enabled("cpu")
        types.update(tensor.dtype for tensor in (inputs, *state, *weights))
        return run(inputs, state, weights, *options)

    monkeypatch.setitem(rnn._FUNCTIONS, "lstm", spy)
    loop = make_loop(things, words, recipe_in(precision))
    loop.model.train()
    loop.train_step(loop._sampler.epoch(0)[0], 0.5)
    assert types == {getattr(torch, precision)}
    assert {parameter.dtype for parameter in loop.model.parameters()} == {torch.float32}


def test_float32_is_what_is_chosen_until_another_type_has_been_measured() -> None:
    assert precision_of(small_recipe("s2vt").training) == "float32"
    with pytest.raises(UserError, match=r"training.precision.*'int8'.*'float32'"):
        recipe_in("int8")


def test_small_gradients_survive_in_float16(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with many targets, among which the gradient of each is divided."""
    zeros = {}
    for scale in (1.0, FIRST_SCALE):
        monkeypatch.setattr(precision_module, "FIRST_SCALE", scale)
        loop = make_loop(things, words, without_dropout("float16", "s2vt", "lstm"))
        monkeypatch.setattr(loop._train, "num_targets", lambda _: 10**6)
        found = gradients(loop, monkeypatch)
        weights = [found[name] for name in found if "weight_hh" in name]
        zeros[scale] = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert zeros[1.0] > 0.9
    assert zeros[FIRST_SCALE] < 0.1


def test_the_scale_is_halved_by_an_overflow_and_doubled_after_many_steps(
    things: DataRef, words: Vocabs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "GROWTH_STEPS", 3)
    loop = make_loop(things, words, recipe_in("float16"))
    loop.model.train()
    first, second, *rows = loop._sampler.epoch(0)
    loop.train_step(first, 0.1)
    before = {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
    loop.step._loss_scale.factor = torch.tensor(2.0**120)
    loop.train_step(second, 0.1)
    assert float(loop.step._loss_scale.factor) == 2.0**119
    assert all(torch.equal(before[name], now) for name, now in loop.model.state_dict().items())
    loop.step._loss_scale.factor, scales = torch.tensor(FIRST_SCALE), []
    for step in range(4):
        loop.train_step(rows[step], 0.1)
        scales.append(float(loop.step._loss_scale.factor) / FIRST_SCALE)
    assert scales == [1, 1, 2, 2]


def test_a_training_in_float16_resumes_exactly(
    things: DataRef, words: Vocabs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "GROWTH_STEPS", 4)
    recipe = recipe_in("float16", "training.epochs=2", "training.monitor=nats_per_token")
    whole = make_loop(things, words, recipe)
    whole.run()
    training = recipe.training.model_copy(update={"max_steps": 6})
    part = make_loop(things, words, recipe.model_copy(update={"training": training}))
    part.run()
    part.checkpoint().write(tmp_path / "part")
    checkpoint = Checkpoint.read(tmp_path / "part")
    assert float(checkpoint.loss_scale["factor"]) != FIRST_SCALE
    resumed = make_loop(things, words, recipe)
    resumed.restore(checkpoint)
    resumed.run()
    assert_same(resumed.checkpoint(), whole.checkpoint())
