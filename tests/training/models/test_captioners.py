"""What sets the captioners that see one vector apart; what they share is in test_generators."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch.nn.functional import pad

from intertitle.training.config.models import ModelConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model

DIM, EMBEDDING, HIDDEN, VOCABULARY = 5, 6, 7, 11
ONCE, EVERY_WORD = ("show_and_tell", "neuraltalk"), ("lrcn", "m_rnn", "recurrent_visual")
SENTENCES = ([4, 5, 6], [7])


def make_model(kind: str) -> Any:
    torch.manual_seed(0)
    sizes = {"embedding_size": EMBEDDING, "hidden_size": HIDDEN}
    config = TypeAdapter(ModelConfig).validate_python({"kind": kind, **sizes})
    return build_model(config, Sizes(VOCABULARY, feature_dim=DIM)).eval()


def make_images(seed: int) -> Batch:
    """Two films, of three frames and of two, with a sentence each."""
    rng = np.random.default_rng(seed)
    films = [rng.normal(size=(t, DIM)).astype(np.float32) for t in (3, 2)]
    rows = [Row(film, (), words) for film, words in zip(films, SENTENCES, strict=True)]
    return make_batch(rows, sentences=True)


@pytest.mark.parametrize("kind", ONCE + EVERY_WORD)
def test_a_film_is_seen_as_a_photograph_of_its_mean(kind: str) -> None:
    model, films = make_model(kind), make_images(0)
    means = films.features.sum(1, keepdim=True) / films.frame_lengths[:, None, None]
    photographs = replace(films, features=means, frame_lengths=torch.ones(2, dtype=torch.int64))
    assert torch.allclose(model.forward(films), model.forward(photographs), atol=1e-6)


def test_neuraltalk_adds_the_image_to_the_first_word_and_to_no_other() -> None:
    model, batch = make_model("neuraltalk"), make_images(0)
    before = model.start(batch)
    assert torch.equal(before.cells.h, torch.zeros_like(before.cells.h))
    _, after = model.advance(before, batch.inputs[:, 0])
    assert before.bias.any() and not after.bias.any()


def layers_after(model: Any, batch: Batch) -> list[torch.Tensor]:
    """The outputs of each recurrent layer after two words."""
    state = model.start(batch)
    for words in batch.inputs[:, :2].T:
        _, state = model.advance(state, words)
    return [layer.h for layer in state.layers]


@pytest.mark.parametrize(
    ("kind", "sees"),
    [("lrcn", [False, True]), ("m_rnn", [False]), ("recurrent_visual", [True, False])],
)
def test_where_the_image_comes_in(kind: str, sees: list[bool]) -> None:
    model = make_model(kind)
    one, other = (layers_after(model, make_images(seed)) for seed in (0, 1))
    assert [not torch.equal(*both) for both in zip(one, other, strict=True)] == sees


def test_m_rnn_merges_a_word_its_past_and_the_image() -> None:
    model, batch = make_model("m_rnn"), make_images(0)
    model.merge.weight.data.mul_(20)
    by_word, by_past, by_image = model.merge.weight.split([EMBEDDING, HIDDEN, EMBEDDING], 1)
    words = model.words(batch.inputs)
    past, _ = model.past(words)
    image = model.start(batch).image[:, None]
    merged = words @ by_word.T + past @ by_past.T + image @ by_image.T + model.merge.bias
    told = model.forward(batch)
    assert torch.allclose(told, 1.7159 * torch.tanh(merged * 2 / 3), atol=1e-5)
    assert 1.0 < told.abs().max() <= 1.7159


class TestTheVisualMemory:
    def test_the_penalty_is_the_mean_squared_error_of_the_feature_at_each_word(self) -> None:
        model, batch = make_model("recurrent_visual"), make_images(0)
        model.fit_normalizer([torch.randn(9, DIM) * 3 + 1])
        images = model.standardize(batch.features.sum(1) / batch.frame_lengths[:, None])
        memory, _ = model.memory(model.words(batch.inputs))
        expected = 0.0
        for row, count in enumerate(batch.target_lengths.tolist()):
            for step in range(count):
                guessed = model.reconstruct(memory[row, step])
                expected += ((guessed - images[row]) ** 2).sum().item() / DIM
        penalty = model.auxiliary_loss(batch, model.forward(batch))
        assert penalty.item() == pytest.approx(expected, rel=1e-5)

    def test_padding_is_not_penalised(self) -> None:
        model, batch = make_model("recurrent_visual"), make_images(0)
        longer = replace(
            batch, inputs=pad(batch.inputs, (0, 3)), targets=pad(batch.targets, (0, 3))
        )
        one, other = (model.auxiliary_loss(b, model.forward(b)) for b in (batch, longer))
        assert torch.allclose(one, other, rtol=1e-5)
        none = replace(batch, target_lengths=torch.zeros_like(batch.target_lengths))
        assert model.auxiliary_loss(none, model.forward(none)).item() == 0.0

    def test_it_learns_from_words_what_they_are_about(self) -> None:
        model, batch = make_model("recurrent_visual"), make_images(0)
        optimizer = torch.optim.Adam(model.parameters(), 2e-2)
        at_first = model.auxiliary_loss(batch, model.forward(batch)).item()
        for _ in range(60):
            optimizer.zero_grad()
            model.auxiliary_loss(batch, model.forward(batch)).backward()
            optimizer.step()
        # Before the first word, which is the same for both, there is nothing to know.
        images = batch.features.sum(1) / batch.frame_lengths[:, None]
        unknowable = float((images[0] - images[1]).square().mean() / 2)
        assert (
            model.auxiliary_loss(batch, model.forward(batch)).item() < unknowable + 0.1 * at_first
        )
