"""Drawing, held to the distribution that is drawn from."""

from typing import Any

import numpy as np
import pytest
import torch

from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from intertitle.training.search.constraints import Constraints
from intertitle.training.search.sampling import (
    SamplingParams,
    sample,
    sample_continuation,
    uniforms,
)
from tests.training.generators import batch_of, make_generator, rows_for

NUM = 20_000


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    expected = probabilities * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


def test_words_are_drawn_as_often_as_they_are_likely() -> None:
    probabilities = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
    log_probs = torch.tensor(np.log(probabilities)).repeat(NUM, 1)
    drawn = SamplingParams().draw(log_probs, uniforms(0, [7], 1, NUM)[0, 0])
    counts = np.bincount(drawn.numpy(), minlength=5)
    # 18.5 is passed once in a thousand times, with four degrees of freedom.
    assert chi_square(counts, probabilities) < 18.5
    sharper = probabilities**2 / (probabilities**2).sum()
    drawn = SamplingParams(temperature=0.5).draw(log_probs, uniforms(1, [7], 1, NUM)[0, 0])
    assert chi_square(np.bincount(drawn.numpy(), minlength=5), sharper) < 18.5
    assert chi_square(counts, sharper) > 100


@pytest.mark.parametrize("recipe", ["s2vt", "seq2seq_attention"])
def test_sentences_are_drawn_as_often_as_they_are_likely(recipe: str) -> None:
    # With two words and at most one of them there are three sentences: "", "4" and "5".
    model = make_generator(recipe, vocabulary=6)
    batch = batch_of(rows_for(model)[:1])
    (drawn,) = sample(
        model, batch, 1, uniforms(0, [0], 4000, 2), SamplingParams(), 0.0, rules=Constraints()
    )
    with torch.inference_mode():
        log_probs, _ = model.step(model.start(batch), torch.tensor([BOS_ID]))
    probabilities = log_probs[0, [EOS_ID, 4, 5]].double().softmax(-1).numpy()
    said = [hypothesis.token_ids for hypothesis in drawn]
    counts = np.array([said.count(ids) for ids in [(), (4,), (5,)]])
    assert counts.sum() == 4000
    # Passed once in a thousand times, with two degrees of freedom.
    assert chi_square(counts, probabilities) < 13.8


@pytest.mark.parametrize(
    ("how", "allowed"),
    [
        (SamplingParams(top_k=2), {1, 3}),
        (SamplingParams(top_k=99), {0, 1, 2, 3, 4}),
        (SamplingParams(top_p=0.65), {1, 3}),
        (SamplingParams(top_p=0.55), {1, 3}),
        (SamplingParams(top_p=0.4), {1}),
        (SamplingParams(top_p=1e-9), {1}),
        (SamplingParams(top_k=3, top_p=0.9), {1, 2, 3}),
        (SamplingParams(top_k=1, temperature=100), {1}),
        (SamplingParams(temperature=1e-310), {1}),
    ],
)
def test_nothing_is_sampled_outside_top_k_or_top_p(how: SamplingParams, allowed: set[int]) -> None:
    log_probs = torch.tensor([0.1, 0.5, 0.19, 0.2, 0.01]).log().repeat(NUM, 1)
    drawn = how.draw(log_probs, uniforms(0, [0], 1, NUM)[0, 0])
    assert set(drawn.tolist()) == allowed


def test_of_words_alike_only_so_many_are_drawn() -> None:
    drawn = SamplingParams(top_k=3).draw(torch.zeros(NUM, 10), uniforms(0, [0], 1, NUM)[0, 0])
    assert len(set(drawn.tolist())) == 3


@pytest.mark.parametrize(("top_p", "num_words"), [(0.25, 1), (0.5, 2), (0.75, 3)])
def test_words_whose_probability_is_top_p_exactly_are_enough(top_p: float, num_words: int) -> None:
    drawn = SamplingParams(top_p=top_p).draw(torch.zeros(NUM, 4), uniforms(0, [0], 1, NUM)[0, 0])
    assert set(drawn.tolist()) == set(range(num_words))


# The smallest and the largest number that is drawn.
@pytest.mark.parametrize("chance", [0.0, 0.5, 1 - 2**-53])
def test_what_is_impossible_is_never_drawn(chance: float) -> None:
    log_probs = torch.full((1, 8), -torch.inf)
    log_probs[0, [3, 5]] = torch.tensor([-200.0, -201.0])
    assert int(SamplingParams().draw(log_probs, torch.tensor([chance], dtype=torch.float64))) in (
        3,
        5,
    )


def test_another_seed_and_another_number_draw_others() -> None:
    one, other = uniforms(0, [0, 1], 2, 5), uniforms(1, [0, 1], 2, 5)
    assert len({round(float(c), 12) for c in torch.cat([one, other]).flatten()}) == 40
    assert torch.equal(uniforms(0, [1], 1, 5)[0, 0], one[1, 0])


def test_running_text_goes_on_after_an_end() -> None:
    model = make_generator("char_lm", vocabulary=6)
    batch = batch_of(rows_for(model))
    read: list[list[int]] = []
    step = model.step

    def note(state: Any, tokens: torch.Tensor) -> Any:
        read.append(tokens.tolist())
        return step(state, tokens)

    model.step = note  # type: ignore[method-assign]
    texts = sample_continuation(
        model,
        batch,
        uniforms(0, range(6), 1, 40),
        SamplingParams(),
        rules=Constraints(prefix=(4, 5)),
    )
    assert {len(text) for text in texts} == {40}
    assert {tuple(text[:2]) for text in texts} == {(4, 5)}
    assert any(EOS_ID in text[:-1] for text in texts)
    # A line is read as in training: <bos> where the one before it has ended.
    for text, inputs in zip(texts, zip(*read, strict=True), strict=True):
        assert inputs == (BOS_ID, *(BOS_ID if t == EOS_ID else t for t in text[:-1]))
    assert not {PAD_ID, BOS_ID, UNK_ID} & {token for text in texts for token in text}
