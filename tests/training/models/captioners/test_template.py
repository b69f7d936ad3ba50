"""The sentence that is filled, and what its words are chosen by."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from intertitle.training.config.models import CaptionerConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.models.base import Sizes
from intertitle.training.models.build import build_model
from intertitle.training.models.captioners.template import LOG_ODDS, Template
from intertitle.training.search.beam import beam
from intertitle.training.search.constraints import Constraints
from intertitle.training.search.sampling import SamplingParams, sample, uniforms
from intertitle.training.trainer.losses import SequenceLoss

THINGS, PLACES = ("dog", "cat"), ("park", "street")
DIM = len(THINGS) + len(PLACES)


def said_of(thing: str, place: str) -> list[str]:
    """Nothing comes more often right behind "a" than a colour and "big", which are no nouns."""
    return [
        f"a {thing} in a {place}",
        f"a big brown {thing} runs in the big {place}",
        f"a brown {thing} sits on a big {place}",
        f"a big {thing} runs in a {place}",
        "two run",
    ]


PAIRS = [(thing, place) for thing in THINGS for place in PLACES]
TOKENIZER = Tokenizer.captions([s for pair in PAIRS for s in said_of(*pair)], min_count=1)


def shown(thing: str, place: str) -> np.ndarray:
    """The feature of a photograph: which of the four words is on it."""
    return np.float32([[word in (thing, place) for word in (*THINGS, *PLACES)]])


def make_model() -> Template:
    torch.manual_seed(0)
    config = CaptionerConfig(kind="template", embedding_size=8, dropout=0.0)
    model = build_model(config, Sizes(len(TOKENIZER), feature_dim=DIM))
    assert isinstance(model, Template)
    model.fit_normalizer([torch.tensor(shown(*pair)) for pair in PAIRS])
    return model


@pytest.fixture(scope="module")
def captions() -> Batch:
    rows = [Row(shown(*p), (), TOKENIZER.encode(s)) for p in PAIRS for s in said_of(*p)]
    return make_batch(rows, sentences=True)


@pytest.fixture(scope="module")
def photographs() -> Batch:
    """All four, without captions."""
    return make_batch([Row(shown(*pair)) for pair in PAIRS], sentences=True)


@pytest.fixture(scope="module")
def trained(captions: Batch) -> Template:
    """It has seen the captions a hundred times."""
    model = make_model()
    forcing = SequenceLoss(model, len(TOKENIZER)).train()
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(100):
        optimizer.zero_grad()
        (forcing(captions)[0] / int(captions.target_lengths.sum())).backward()
        optimizer.step()
    return model.eval()


def write(model: Any, batch: Batch, beam_size: int, max_tokens: int = 8) -> list[str]:
    found = beam(model, batch, beam_size, max_tokens, 0.7)
    return [TOKENIZER.decode(row[0].token_ids) for row in found]


FILLED = [f"a {thing} in a {place}" for thing, place in PAIRS]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_frame_is_filled_with_the_thing_and_the_place_that_are_seen(
    trained: Template, photographs: Batch, beam_size: int
) -> None:
    assert write(trained, photographs, beam_size) == FILLED


def test_its_probability_is_on_one_sentence(trained: Template, photographs: Batch) -> None:
    drawn = sample(
        trained,
        photographs,
        8,
        uniforms(0, range(4), 1, 9),
        SamplingParams(),
        0.7,
        rules=Constraints(),
    )
    assert [TOKENIZER.decode(row[0].token_ids) for row in drawn] == FILLED
    log_probs, _ = trained.step(trained.start(photographs), photographs.inputs[:, 0])
    assert torch.allclose(log_probs.exp().sum(1), torch.ones(4), atol=1e-5)


def test_a_search_without_room_for_it_cuts_it(trained: Template, photographs: Batch) -> None:
    for beam_size in (1, 3):
        assert set(write(trained, photographs, beam_size, max_tokens=2)) == {"a dog", "a cat"}


def test_before_it_knows_a_noun_it_still_writes_words(photographs: Batch) -> None:
    for sentence in write(make_model().eval(), photographs, 3):
        assert len(sentence.split()) == 5 and "<" not in sentence


def test_a_state_of_chosen_rows_goes_on_as_those_rows(
    trained: Template, photographs: Batch
) -> None:
    state, words = trained.start(photographs), photographs.inputs[:, 0]
    _, state = trained.step(state, words)
    rows = torch.tensor([3, 0, 0])
    log_probs, _ = trained.step(state, words)
    chosen, _ = trained.step(state.select(rows), words[rows])
    assert torch.equal(chosen, log_probs[rows])


def test_a_template_word_depends_only_on_the_image(trained: Template, captions: Batch) -> None:
    log_probs = torch.log_softmax(trained.logits(trained.forward(captions)), -1)
    assert torch.equal(log_probs, log_probs[:, :1].expand_as(log_probs))
    dog, cat = (TOKENIZER.encode(thing)[0] for thing in THINGS)
    with_dog, with_cat = log_probs[0, 0], log_probs[-1, 0]
    assert with_dog[dog] > with_dog[cat] + 1 and with_cat[cat] > with_cat[dog] + 1


def test_its_frequencies_are_those_of_the_captions(trained: Template, captions: Batch) -> None:
    rows = [
        ids[:count] for ids, count in zip(captions.targets, captions.target_lengths, strict=True)
    ]
    follows_a = {word: [] for word in range(len(TOKENIZER))}
    for ids in rows:
        for before, word in zip(ids[:-1].tolist(), ids[1:].tolist(), strict=True):
            follows_a[word].append(before == TOKENIZER.encode("a")[0])
    learned = (LOG_ODDS * trained.company.detach()[:, 0]).sigmoid()
    for word in ("dog", "brown", "park", "runs", "in"):
        (token,) = TOKENIZER.encode(word)
        assert float(learned[token]) == pytest.approx(np.mean(follows_a[token]), abs=0.05)


def test_the_company_of_a_word_is_that_of_the_caption_as_it_is(captions: Batch) -> None:
    model = make_model()
    expected = model.auxiliary_loss(captions, model.forward(captions))
    # Padding, and words of the model's own among those that are read, change nothing.
    padded = replace(
        captions,
        inputs=pad(torch.full_like(captions.inputs, 5), (0, 2)),
        targets=pad(captions.targets, (0, 2)),
    )
    assert torch.allclose(model.auxiliary_loss(padded, model.forward(padded)), expected)
    none = replace(captions, target_lengths=torch.zeros_like(captions.target_lengths))
    assert model.auxiliary_loss(none, model.forward(none)).item() == 0.0


def test_what_it_knows_of_a_word_goes_with_the_word() -> None:
    model = make_model()
    rows = {n: len(dict(model.named_parameters())[n]) for n in model.vocabulary_parameters()}
    assert rows == dict.fromkeys(
        ("words.embedding.weight", "words.bias", "company"), len(TOKENIZER)
    )
