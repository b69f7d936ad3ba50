"""The optimizer, its schedule and the running average."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from intertitle.training.config.sections import OptimizerConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.models.base import Generator, Model, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.trainer.optim import (
    ParameterAverage,
    learning_rate,
    make_optimizer,
    step_if,
)
from tests.training.conftest import small_recipe


@pytest.fixture
def model() -> Generator[Any]:
    torch.manual_seed(0)
    model = build_model(small_recipe("s2vt").model, Sizes(9, 0, 3)).eval()
    assert isinstance(model, Generator)
    return model


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(t, 3)).astype(np.float32) for t in (2, 1, 3)]
    rows = zip(features, [[4, 5, 6], [8], []], strict=True)
    return make_batch([Row(some, (), words) for some, words in rows], sentences=True)


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine() -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup=0.2)
    assert learning_rate(config, 0.1) == pytest.approx(1.0)
    assert learning_rate(config, 0.2) == pytest.approx(2.0)
    assert learning_rate(config, 0.6) == pytest.approx(1.0)
    assert learning_rate(config, 0.4) == pytest.approx(1 + 2**-0.5)
    assert learning_rate(config, 1.0) == pytest.approx(0.0, abs=1e-12)
    rates = [learning_rate(config, progress / 100) for progress in range(20, 121)]
    assert all(before >= after >= 0 for before, after in pairwise(rates))
    assert learning_rate(config, 0.0) > 0


def test_the_learning_rate_may_stay_and_may_begin_at_once() -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup=0.0, decay="none")
    assert {learning_rate(config, progress) for progress in (0.0, 0.5, 1.0)} == {2.0}
    assert learning_rate(config.model_copy(update={"decay": "cosine"}), 0.0) == 2.0


def test_matrices_decay_and_biases_do_not(model: Generator[Any]) -> None:
    decayed, others = make_optimizer(model, OptimizerConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    # One kernel for all parameters.
    assert decayed["fused"] and others["fused"]
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def bias_of(model: Model) -> torch.Tensor:
    assert isinstance(model, Generator)
    return model.words.bias


def shift(model: Generator[Any], by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by


def test_the_average_of_weights_moves_as_its_decay_says(model: Generator[Any]) -> None:
    average, before = ParameterAverage(model, 0.9), bias_of(model).detach().clone()
    shift(model, 1.0)
    average.update(model, 10_000, torch.tensor(True))
    assert torch.allclose(bias_of(average.model), before + 0.1, atol=1e-6)
    average.update(model, 10_000, torch.tensor(True))
    assert torch.allclose(bias_of(average.model), before + 0.19, atol=1e-6)


def test_a_step_without_effect_changes_neither_average_nor_optimizer(
    model: Generator[Any],
) -> None:
    average, optimizer = ParameterAverage(model, 0.9), make_optimizer(model, OptimizerConfig())

    def state() -> list[torch.Tensor]:
        tensors = [*model.parameters(), *average.model.parameters()]
        tensors += [t for s in optimizer.state.values() for t in s.values()]
        return [tensor.detach().clone() for tensor in tensors]

    def step(gradient: float) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        finite = torch.tensor(gradient).isfinite()
        step_if(finite, optimizer)
        average.update(model, 3, finite)

    step(1.0)
    before = state()
    step(torch.nan)
    assert all(map(torch.equal, before, state()))
    step(1.0)
    assert not any(map(torch.equal, before, state()))


def test_the_average_is_short_in_the_beginning(model: Generator[Any]) -> None:
    average, before = ParameterAverage(model, 0.999), bias_of(model).detach().clone()
    shift(model, 1.0)
    average.update(model, 2, torch.tensor(True))
    assert torch.allclose(bias_of(average.model), before + 1 - 3 / 12, atol=1e-6)


def test_the_average_is_a_model_of_its_own_to_evaluate(model: Generator[Any], batch: Batch) -> None:
    average = ParameterAverage(model.train(), 0.9)
    said = average.model.forward(batch)
    shift(model, 1.0)
    assert torch.equal(average.model.forward(batch), said)
    assert not said.requires_grad
    assert not average.model.training
