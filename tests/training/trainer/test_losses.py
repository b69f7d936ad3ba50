"""The loss."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cross_entropy

from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.lm_dataset import LanguageModelDataset
from intertitle.training.models.base import Generator, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.trainer import losses
from intertitle.training.trainer.losses import SequenceLoss, SmoothedCrossEntropy
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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_its_gradient_is_that_of_its_values(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 7, dtype=torch.double, generator=generator, requires_grad=True)
    targets, weights = torch.tensor([0, 6, 3, 3]), torch.tensor([1.0, -0.5, 2.0, 0.0]).double()

    def loss(logits: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = SmoothedCrossEntropy.apply(logits, targets, weights, smoothing)[0]
        return total

    assert gradcheck(lambda logits: 3 * loss(logits), (logits,))
    rows = cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    assert torch.allclose(loss(logits), (weights * rows).sum())


@pytest.mark.parametrize("trains", [True, False])
def test_the_auxiliary_loss_is_that_of_training_alone(
    model: Generator[Any], batch: Batch, trains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    forcing = SequenceLoss(model, VOCABULARY).train(trains)
    model.eval()
    before, nats, _ = forcing(batch)
    monkeypatch.setattr(model, "auxiliary_loss", lambda batch, hidden: hidden.sum() * 0 + 5.0)
    after, same_nats, _ = forcing(batch)
    assert (after - before).item() == pytest.approx(5.0 if trains else 0.0, abs=1e-5)
    assert torch.equal(nats, same_nats)


def test_the_state_after_a_window_comes_without_its_graph() -> None:
    torch.manual_seed(0)
    model = build_model(small_recipe("char_lm").model, Sizes(VOCABULARY, 0, 0))
    windows = LanguageModelDataset([[4, 5, 6, 7] * 3], num_streams=1, bptt_len=4)
    forcing, carried = SequenceLoss(model.eval(), VOCABULARY), None
    losses = []
    for rows in windows.windows():
        loss, _, carried = forcing(windows.batch(rows), carried)
        assert not carried.h.requires_grad and loss.requires_grad
        losses.append(loss)
    # A window goes on where the one before it ended.
    alone, _, _ = forcing(windows.batch(windows.windows()[1]))
    assert not torch.allclose(losses[1], alone)


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
        model.eval()
        loss, nats, _ = forcing(weighted)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        results.append((loss, nats, *gradients))
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("max_logits", "sizes"),
    [
        # Four words, an end each: six targets; each portion is computed again for its gradient.
        (7 * VOCABULARY, [7]),
        (6 * VOCABULARY, [6, 1, 6, 1]),
        (3 * VOCABULARY + 1, [3, 3, 1, 3, 3, 1]),
        (1, [1] * 14),
    ],
)
def test_no_portion_has_more_logits_than_allowed(
    model: Generator[Any],
    batch: Batch,
    max_logits: int,
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    logits = model.logits

    def note(hidden: torch.Tensor) -> torch.Tensor:
        seen.append(len(hidden))
        return logits(hidden)

    monkeypatch.setattr(losses, "MAX_LOGITS", max_logits)
    monkeypatch.setattr(model, "logits", note)
    SequenceLoss(model, VOCABULARY)(batch)[0].backward()
    assert sorted(seen) == sorted(sizes)


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
