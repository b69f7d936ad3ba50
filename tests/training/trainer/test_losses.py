"""The loss."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.models.base import Generator, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.trainer import losses
from intertitle.training.trainer.losses import SequenceLoss
from tests.training.conftest import small_recipe

VOCABULARY = 9


@pytest.fixture
def model() -> Generator[Any]:
    torch.manual_seed(0)
    model = build_model(small_recipe("s2vt").model, Sizes(VOCABULARY, 0, 3)).eval()
    assert isinstance(model, Generator)
    return model


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(t, 3)).astype(np.float32) for t in (2, 1, 3)]
    rows = zip(features, [[4, 5, 6], [8], []], strict=True)
    return make_batch([Row(some, (), words) for some, words in rows], sentences=True)


def told(model: Generator[Any], batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of the words that count."""
    logits = model.logits(model.forward(batch))
    pairs = [(logits[r, :n], batch.targets[r, :n]) for r, n in enumerate(batch.target_lengths)]
    return torch.cat([some for some, _ in pairs]), torch.cat([some for _, some in pairs])


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_cross_entropy_over_the_words_that_count(
    model: Generator[Any], batch: Batch, smoothing: float
) -> None:
    forcing = SequenceLoss(model, VOCABULARY, smoothing)
    model.eval()  # no dropout; the loss is still that of training
    loss, nats, carried = forcing(batch)
    logits, words = told(model, batch)
    expected = cross_entropy(logits, words, label_smoothing=smoothing, reduction="sum")
    plain = cross_entropy(logits, words, reduction="sum")
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert torch.allclose(nats, plain, rtol=1e-5)
    assert not nats.requires_grad
    assert carried is None
    assert torch.allclose(forcing.eval()(batch)[0], plain, rtol=1e-5)


def test_a_row_that_does_not_count_adds_nothing_and_still_reaches_every_parameter(
    model: Generator[Any], batch: Batch
) -> None:
    nothing = replace(batch, target_lengths=torch.zeros_like(batch.target_lengths))
    loss, nats, _ = SequenceLoss(model, VOCABULARY, 0.1)(nothing)
    loss.backward()
    assert (loss.item(), nats.item()) == (0, 0)
    # Workers wait for each other's gradients: a missing one would stop them all.
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_a_row_counts_as_much_as_its_weight(model: Generator[Any], batch: Batch) -> None:
    forcing = SequenceLoss(model, VOCABULARY)
    model.eval()
    losses = [
        forcing(replace(batch, target_lengths=batch.target_lengths * (torch.arange(3) == row)))[0]
        for row in range(3)
    ]
    loss, nats, _ = forcing(replace(batch, weights=torch.tensor([2.0, -0.5, 0.0])))
    assert torch.allclose(loss, 2 * losses[0] - 0.5 * losses[1], rtol=1e-5)
    # What is reported is what the words are worth to the model, whatever they are worth to us.
    assert torch.allclose(nats, sum(losses, torch.zeros(())), rtol=1e-5)


def test_a_loss_in_portions_is_the_loss_and_has_its_gradient(
    model: Generator[Any], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    weighted = replace(batch, weights=torch.tensor([1.0, 3.0, 0.5]))
    whole = SequenceLoss(model, VOCABULARY, 0.1)
    monkeypatch.setattr(losses, "MAX_LOGITS", 2 * VOCABULARY)
    in_portions = SequenceLoss(model, VOCABULARY, 0.1)
    results = []
    for forcing in (whole, in_portions):
        model.eval().zero_grad()
        loss, nats, _ = forcing(weighted)
        loss.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        results.append((loss, nats, *gradients))
    assert len(results[0]) == 2 + len(list(model.parameters()))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)


def test_a_portion_computed_again_hides_the_same(
    model: Generator[Any], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "MAX_LOGITS", 2 * VOCABULARY)
    forcing = SequenceLoss(model.double(), VOCABULARY).train()
    model.words.dropout.p = 0.5
    exact = replace(batch, features=batch.features.double(), weights=batch.weights.double())

    def loss() -> torch.Tensor:
        torch.manual_seed(0)
        total: torch.Tensor = forcing(exact)[0]
        return total

    torch.autograd.backward(loss())
    weight = model.words.embedding.weight
    assert weight.grad is not None
    with torch.no_grad():
        sides = []
        for step in (1e-2, -2e-2):
            weight[5, 0] += step
            sides.append(loss())
    # The loss is float32 inside.
    slope = (sides[0] - sides[1]).item() / 2e-2
    assert slope == pytest.approx(weight.grad[5, 0].item(), rel=1e-2, abs=1e-4)
