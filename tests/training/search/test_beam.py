"""What ends a search, and what it never writes; what it promises of every model is in the laws."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from intertitle.training.config.models import CaptionerConfig
from intertitle.training.data.batch import Batch, Row, make_batch
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from intertitle.training.models.base import AttentionWeights, Generator, Sizes
from intertitle.training.models.build import build_model
from intertitle.training.search.beam import Hypothesis, beam

DIM = 3
NEVER = [PAD_ID, BOS_ID, UNK_ID]


def make_model(vocabulary: int, **bias: float) -> Generator[Any]:
    torch.manual_seed(0)
    config = CaptionerConfig(kind="s2vt", embedding_size=4, hidden_size=5, dropout=0.0)
    model: Any = build_model(config, Sizes(vocabulary, 0, DIM))
    for parameter in model.parameters():
        parameter.data.mul_(4)
    for word, value in bias.items():
        model.words.bias.data[
            {"pad": PAD_ID, "bos": BOS_ID, "eos": EOS_ID, "unk": UNK_ID}[word]
        ] = value
    return model.eval()


def films(num: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 2, (1 + n % 3, DIM)).astype(np.float32) for n in range(num)]


def questions(num: int) -> Batch:
    return make_batch([Row(film) for film in films(num)], sentences=True)


@torch.no_grad()
def log_probs(
    model: Generator[Any], film: np.ndarray, sentences: list[tuple[int, ...]]
) -> list[float]:
    """Of whole sentences with their <eos>, by the path that training takes."""
    batch = make_batch([Row(film, (), ids) for ids in sentences], sentences=True)
    of_all = torch.log_softmax(model.logits(model.forward(batch)).double(), -1)
    of_words = of_all.gather(2, batch.targets[..., None])[..., 0]
    at = torch.arange(of_words.shape[1]) < batch.target_lengths[:, None]
    return [float(row) for row in (of_words * at).sum(1)]


def ranked(found: list[Hypothesis]) -> list[tuple[int, ...]]:
    return [hypothesis.token_ids for hypothesis in found]


def test_patience_ends_a_search_whose_hopes_are_seldom_kept() -> None:
    model, batch, rows = make_model(12, eos=1.0), questions(30), []
    model.writing.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    looked, scores = [], []
    for patience in (1.0, 2.0, 100.0, math.inf):
        rows.clear()
        found = beam(model, batch, 3, 20, 0.7, num=1, patience=patience)
        looked.append(sum(rows))
        scores.append([best.score for (best,) in found])
    assert looked[0] < looked[1] < looked[2] == looked[3]
    hasty, patient, *endless = map(np.array, scores)
    assert np.array_equal(*endless)
    assert (hasty <= patient + 1e-5).all()
    assert (patient <= endless[0] + 1e-5).all()
    assert np.isclose(hasty, endless[0]).mean() > 0.5
    # Those that are wanted are waited for.
    assert all(len(row) == 3 for row in beam(model, batch, 3, 20, 0.7, patience=1.0))


def test_special_tokens_are_never_generated() -> None:
    model = make_model(9, pad=20.0, bos=20.0, unk=20.0)
    for found in beam(model, questions(6), 4, 6, 0.7):
        assert not {word for h in found for word in h.token_ids} & {*NEVER, EOS_ID}


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_model_that_never_ends_is_ended_at_the_limit(beam_size: int) -> None:
    model = make_model(9, eos=-60.0)
    for film, found in zip(films(5), beam(model, questions(5), beam_size, 4, 0.0), strict=True):
        assert [len(h.token_ids) for h in found] == [4] * beam_size
        totals = log_probs(model, film, ranked(found))
        assert [h.log_prob for h in found] == pytest.approx(totals, abs=1e-3)


@pytest.mark.parametrize(("vocabulary", "eos"), [(9, 60.0), (4, 0.0)])
def test_a_model_that_says_nothing_gives_one_empty_sentence_first(
    vocabulary: int, eos: float
) -> None:
    for found in beam(make_model(vocabulary, eos=eos), questions(5), 3, 4, 0.7):
        assert found[0].token_ids == ()


class Fixed:
    """A model that finds every word as likely as always, and counts the steps."""

    def __init__(self, log_probs: dict[int, float]) -> None:
        self.num_steps = 0
        self._log_probs = torch.full((1, 6), -torch.inf)
        for word, value in log_probs.items():
            self._log_probs[0, word] = value

    def start(self, batch: Batch) -> Any:
        return self

    def select(self, rows: torch.Tensor) -> Any:
        return self

    def step(self, state: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, Any]:
        self.num_steps += 1
        return self._log_probs.repeat(len(tokens), 1), self


@pytest.mark.parametrize(
    ("end", "max_tokens", "ends_at_once"),
    [(-0.19, 9, True), (-0.19, 10, False), (-0.2, 9, True)],
)
def test_a_search_ends_when_no_longer_sentence_can_still_be_better(
    end: float, max_tokens: int, ends_at_once: bool
) -> None:
    # The empty sentence has -0.19. The best that begins with a word has -2 for nine words and the
    # end together at best, so -0.2 a token; for ten words it would be -0.18.
    model: Any = Fixed({EOS_ID: end, 4: -2.0, 5: -9.0})
    ((found,),) = beam(model, questions(1), 2, max_tokens, 1.0, num=1)
    assert found.token_ids == ()
    assert (model.num_steps == 1) == ends_at_once


class Staring(Fixed):
    """It looks at the first of two places alone."""

    def attention_weights(self, state: Any) -> AttentionWeights:
        num = len(self.tokens)
        weights = torch.tensor([[1.0, 0.0]]).repeat(num, 1)
        return AttentionWeights(weights, torch.zeros(num, 2, dtype=torch.bool))

    def step(self, state: Any, tokens: torch.Tensor) -> tuple[torch.Tensor, Any]:
        self.tokens = tokens
        return super().step(state, tokens)


def test_a_place_that_is_never_looked_at_costs_no_more_than_one_of_a_millionth() -> None:
    model: Any = Staring({EOS_ID: -0.1, 4: -2.0})
    ((found,),) = beam(model, questions(1), 2, 5, 0.0, coverage_penalty=0.5, num=1)
    assert found.token_ids == ()
    assert found.score == pytest.approx(-0.1 + 0.5 * math.log(1e-6))
