"""What every generator promises, whichever it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn.functional import pad

from intertitle.training.config.models import ModelConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.task import Task
from intertitle.training.models.base import Generator, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.trainer.losses import SequenceLoss

DIM, NUM_CELLS, VOCABULARY, SOURCE_VOCABULARY = 5, 3, 11, 9
SENTENCES = ([4, 5, 6], [7], [], [10, 4, 4, 8, 9])
NUM_FRAMES = (3, 1, 4, 2)
SHAPES: dict[str, tuple[int, ...]] = {"pooled": (DIM,), "grid": (NUM_CELLS, DIM)}
SOURCES = ([4, 5, 4, 8], [6], [], [7, 8])

SEEING = {
    "show_and_tell": {"kind": "show_and_tell"},
    "neuraltalk": {"kind": "neuraltalk", "cell": "gru", "num_layers": 2},
    "m_rnn": {"kind": "m_rnn", "cell": "rnn"},
    "lrcn": {"kind": "lrcn", "num_layers": 2},
    "recurrent_visual": {"kind": "recurrent_visual"},
    "mean_pool_video": {"kind": "mean_pool_video"},
    "s2vt": {"kind": "s2vt"},
    "attend_and_tell": {"kind": "attend_and_tell", "num_layers": 2, "attention_size": 4},
}
READING = {
    "seq2seq": {"kind": "seq2seq", "num_layers": 2},
    "seq2seq reversed": {"kind": "seq2seq", "reversed": True, "cell": "gru"},
    "seq2seq both ways": {"kind": "seq2seq", "bidirectional": True, "num_layers": 2},
    "seq2seq multiplicative": {"kind": "seq2seq", "attention": "multiplicative"},
    "seq2seq additive": {
        "kind": "seq2seq",
        "cell": "rnn",
        "bidirectional": True,
        "attention": "additive",
    },
}
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"feature_dropout": 0.2, **section} for name, section in SEEING.items()},
    **READING,
}


def rows_of(task: Task, seed: int = 0) -> list[Row]:
    """Four examples with all that a task sees and reads; another seed, other examples."""
    rng = np.random.default_rng(seed)
    features: list[Any] = [None] * len(SENTENCES)
    if task.visual_input != "nothing":
        shape = SHAPES[task.visual_input]
        features = [rng.normal(1, 3, (t, *shape)).astype(np.float32) for t in NUM_FRAMES]
    sources = SOURCES[seed:] + SOURCES[:seed] if task.has_source else [()] * len(SENTENCES)
    return [Row(*parts) for parts in zip(features, sources, SENTENCES, strict=True)]


def batch_of(rows: list[Row]) -> Batch:
    return make_batch(rows, sentences=True)


@pytest.fixture
def batch(model: Generator[Any]) -> Batch:
    return batch_of(rows_of(model.task))


def make_model(name: str) -> Generator[Any]:
    torch.manual_seed(0)
    sizes = {"embedding_size": 6, "hidden_size": 7, "dropout": 0.3}
    config = TypeAdapter(ModelConfig).validate_python({**sizes, **MODELS[name]})
    model = build_model(config, Sizes(VOCABULARY, SOURCE_VOCABULARY, DIM))
    assert isinstance(model, Generator)
    if model.task.visual_input != "nothing":
        model.fit_normalizer(seen(rows_of(model.task, 1)))
    # Fresh weights say nearly the same of everything: these are far from it.
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model.eval()


def seen(rows: list[Row]) -> list[torch.Tensor]:
    return [torch.tensor(row.features) for row in rows]


def shown(rows: list[Row], scale: float, offset: float) -> list[Row]:
    """The same examples with other features."""
    return [replace(row, features=scale * row.features + offset) for row in rows]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Generator[Any]:
    return make_model(request.param)


@torch.no_grad()
def forced(model: Generator[Any], batch: Batch) -> torch.Tensor:
    """Log-probabilities given the right words before: [B, L, V]."""
    return torch.log_softmax(model.logits(model.forward(batch)), -1)


@torch.no_grad()
def stepped(model: Generator[Any], batch: Batch) -> torch.Tensor:
    """The same, word by word."""
    state, told = model.start(batch), []
    for words in batch.inputs.T:
        log_probs, state = model.step(state, words)
        told.append(log_probs)
    return torch.stack(told, 1)


def counts(batch: Batch) -> torch.Tensor:
    return torch.arange(batch.targets.shape[1]) < batch.target_lengths[:, None]


def test_forward_and_step_compute_the_same(model: Generator[Any], batch: Batch) -> None:
    at = counts(batch)
    one, other = forced(model, batch)[at], stepped(model, batch)[at]
    assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(one.exp().sum(-1), torch.ones(len(one)), atol=1e-5)


@pytest.mark.parametrize("how", [forced, stepped])
def test_a_row_gives_the_same_alone_and_in_a_batch(
    model: Generator[Any], batch: Batch, how: Any
) -> None:
    together = how(model, batch)
    for n, row in enumerate(rows_of(model.task)):
        alone = how(model, batch_of([row]))[0]
        assert torch.allclose(together[n, : len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize("how", [forced, stepped])
def test_more_padding_changes_nothing(model: Generator[Any], batch: Batch, how: Any) -> None:
    padded = replace(
        batch,
        features=torch.cat([batch.features, torch.zeros_like(batch.features[:, :2])], 1),
        source=pad(batch.source, (0, 2)),
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
    loss, _, _ = SequenceLoss(model.train(), VOCABULARY, 0.1).train()(batch)
    loss.backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", SEEING)
def test_normalization_removes_the_scale_of_features(name: str) -> None:
    model = make_model(name)
    rows = rows_of(model.task)
    expected = forced(model, batch_of(rows))
    model.fit_normalizer(seen(shown(rows_of(model.task, 1), 1000, 7)))
    scaled = batch_of(shown(rows, 1000, 7))
    at = counts(scaled)
    assert torch.allclose(forced(model, scaled)[at], expected[at], atol=1e-3)


@pytest.mark.parametrize("name", SEEING)
def test_a_constant_feature_is_not_scaled_up(name: str) -> None:
    model = make_model(name)
    same = shown(rows_of(model.task), 0, 1)
    model.fit_normalizer(seen(same))
    assert forced(model, batch_of(same)).isfinite().all()


def test_dropout_acts_in_training_alone(model: Generator[Any], batch: Batch) -> None:
    assert torch.equal(forced(model, batch), forced(model, batch))
    model.train()
    assert not torch.equal(forced(model, batch), forced(model, batch))


@pytest.mark.parametrize("name", SEEING)
def test_only_s2vt_sees_in_which_order_frames_come(name: str) -> None:
    model = make_model(name)
    film = rows_of(model.task)[0]
    assert film.features is not None
    backwards = replace(film, features=film.features[::-1].copy())
    one, other = (forced(model, batch_of([row])) for row in (film, backwards))
    assert torch.allclose(one, other, atol=1e-5) == (name != "s2vt")


def test_the_output_depends_on_the_input(model: Generator[Any]) -> None:
    one, other = (forced(model, batch_of(rows_of(model.task, seed)[:1])) for seed in (0, 3))
    assert not torch.allclose(one, other, atol=1e-2)
