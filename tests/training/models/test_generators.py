"""What every generator promises, whichever it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from training.config import ModelConfig
from training.data.batch import Batch, make_batch
from training.models.build import build_model
from training.models.generator import Generator
from training.optimization import TeacherForcing

DIM, VOCABULARY = 5, 11
KINDS = ("show_and_tell", "mean_pool_video", "s2vt")
SENTENCES = ([4, 5, 6], [7], [], [10, 4, 4, 8, 9])
NUM_FRAMES = (3, 1, 4, 2)


def frames(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(1, 3, (t, DIM)).astype(np.float32) for t in NUM_FRAMES]


@pytest.fixture
def batch() -> Batch:
    return make_batch(frames(), SENTENCES)


def make_model(kind: str, **changes: Any) -> Generator[Any]:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 7, "dropout": 0.3, "feature_dropout": 0.2}
    model = build_model(ModelConfig(kind=kind, **(sizes | changes)), DIM, VOCABULARY)
    model.measure([torch.tensor(f) for f in frames(1)])
    # Fresh weights say nearly the same of everything: these are far from it.
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Generator[Any]:
    return make_model(request.param)


@torch.no_grad()
def forced(model: Generator[Any], batch: Batch) -> torch.Tensor:
    """Log-probabilities given the right words before: [B, L, V]."""
    return torch.log_softmax(model.logits(model.hidden(batch)), -1)


@torch.no_grad()
def stepped(model: Generator[Any], batch: Batch) -> torch.Tensor:
    """The same, word by word."""
    state, told = model.start(batch), []
    for words in batch.inputs.T:
        log_probs, state = model.step(state, words)
        told.append(log_probs)
    return torch.stack(told, 1)


def counts(batch: Batch) -> torch.Tensor:
    return torch.arange(batch.targets.shape[1]) < batch.num_targets[:, None]


def test_training_and_search_see_the_same_model(model: Generator[Any], batch: Batch) -> None:
    at = counts(batch)
    one, other = forced(model, batch)[at], stepped(model, batch)[at]
    assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(one.exp().sum(-1), torch.ones(len(one)), atol=1e-5)


@pytest.mark.parametrize("how", [forced, stepped])
def test_a_row_is_told_the_same_alone_and_among_others(
    model: Generator[Any], batch: Batch, how: Any
) -> None:
    together = how(model, batch)
    for row, (feature, sentence) in enumerate(zip(frames(), SENTENCES, strict=True)):
        alone = how(model, make_batch([feature], [sentence]))[0]
        assert torch.allclose(together[row, : len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize("how", [forced, stepped])
def test_more_padding_changes_nothing(model: Generator[Any], batch: Batch, how: Any) -> None:
    padded = replace(
        batch,
        features=pad(batch.features, (0, 0, 0, 2)),
        inputs=pad(batch.inputs, (0, 3)),
        targets=pad(batch.targets, (0, 3)),
    )
    at = counts(batch)
    longer = how(model, padded)[:, : at.shape[1]]
    assert torch.allclose(how(model, batch)[at], longer[at], atol=1e-5)


@torch.no_grad()
def test_a_state_of_chosen_rows_goes_on_as_those_rows(model: Generator[Any], batch: Batch) -> None:
    rows = torch.tensor([3, 0, 0, 2, 1, 3])
    _, state = model.step(model.start(batch), batch.inputs[:, 0])
    words = torch.tensor([4, 5, 6, 7])
    log_probs, after = model.step(state, words)
    chosen, after_chosen = model.step(state.select(rows), words[rows])
    assert torch.allclose(chosen, log_probs[rows], atol=1e-6)
    again, _ = model.step(after_chosen, words[rows])
    assert torch.allclose(again, model.step(after.select(rows), words[rows])[0], atol=1e-6)


def test_every_parameter_learns(model: Generator[Any], batch: Batch) -> None:
    loss, _ = TeacherForcing(model.train(), 0.1)(batch)
    loss.backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_features_of_another_scale_are_the_same_to_it_once_measured(
    model: Generator[Any], batch: Batch
) -> None:
    expected = forced(model, batch)
    model.measure([torch.tensor(1000 * f + 7) for f in frames(1)])
    scaled = make_batch([1000 * f + 7 for f in frames()], SENTENCES)
    at = counts(batch)
    assert torch.allclose(forced(model, scaled)[at], expected[at], atol=1e-3)


def test_a_feature_that_never_changes_is_not_blown_up(model: Generator[Any]) -> None:
    same = [np.ones((2, DIM), np.float32)] * 3
    model.measure([torch.tensor(f) for f in same])
    assert forced(model, make_batch(same, [[4]] * 3)).isfinite().all()


def test_dropout_acts_in_training_alone(model: Generator[Any], batch: Batch) -> None:
    assert torch.equal(forced(model, batch), forced(model, batch))
    model.train()
    assert not torch.equal(forced(model, batch), forced(model, batch))


@pytest.mark.parametrize("kind", KINDS)
def test_only_s2vt_sees_in_which_order_frames_come(kind: str) -> None:
    model, film = make_model(kind), frames()[0]
    forward, backward = (
        forced(model, make_batch([f], [[4, 5]])) for f in (film, film[::-1].copy())
    )
    assert torch.allclose(forward, backward, atol=1e-5) == (kind != "s2vt")


def test_the_frames_are_seen_at_all(model: Generator[Any]) -> None:
    one, other = (forced(model, make_batch([f], [[4]])) for f in (frames()[0], frames(2)[0]))
    assert not torch.allclose(one, other, atol=1e-2)
