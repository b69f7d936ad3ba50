"""Candidates of anyone's, ranked by what a model thinks of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.answers import rank_answers
from intertitle.training.inference.prediction_io import Prediction
from intertitle.training.inference.rescore import rescore_nbest
from intertitle.training.models.base import Generator
from intertitle.training.search.beam import beam
from tests.training.conftest import make_loop, questions, small_recipe, split_of

SEARCH = SearchConfig(beam_size=4, max_tokens=6, length_penalty=0.6)
NAMES = [f"thing {n}" for n in range(12)]


@pytest.fixture(scope="module")
def model(things: DataRef, words: Vocabs) -> Generator[Any]:
    torch.manual_seed(0)
    made = make_loop(things, words, small_recipe()).model.eval()
    assert isinstance(made, Generator)
    for parameter in made.parameters():
        parameter.data.mul_(2)
    return made


def ranked(model: Generator[Any], dataset: Any) -> list[Prediction]:
    """What a beam finds, as a list."""
    found = rank_answers(model, dataset, range(12), SEARCH, 4)
    return [
        Prediction(NAMES[n], rank, answer.score, answer.texts[0])
        for n, answers in enumerate(found)
        for rank, answer in enumerate(answers, start=1)
    ]


def again(
    model: Any, dataset: Any, candidates: list[Prediction], weight: float
) -> list[Prediction]:
    numbers = {name: n for n, name in enumerate(NAMES)}
    return rescore_nbest(model, dataset, numbers, candidates, length_penalty=0.6, weight=weight)


def test_a_model_gives_its_own_list_the_scores_that_its_beam_gave(
    model: Generator[Any], things: DataRef, words: Vocabs
) -> None:
    dataset = split_of(things, "val", words)
    told = ranked(model, dataset)
    # Shuffled, and with scores of another system.
    given = [Prediction(p.id, 9, 100.0 * n, p.text) for n, p in enumerate(told)][::-1]
    found = again(model, dataset, given, 0.0)
    assert [p.id for p in found] == [p.id for p in told][::-1]
    by_rank = {(p.id, p.rank): p for p in found}
    for one in told:
        other = by_rank[one.id, one.rank]
        assert (other.text, other.score) == (one.text, pytest.approx(one.score, abs=1e-4))


def test_scores_are_mixed_by_the_weight(
    model: Generator[Any], things: DataRef, words: Vocabs
) -> None:
    dataset = split_of(things, "val", words)
    told = ranked(model, dataset)[:4]
    given = [Prediction(p.id, n, float(n), p.text) for n, p in enumerate(told, start=1)]
    theirs = again(model, dataset, given, 1.0)
    assert [(p.text, p.score, p.rank) for p in theirs] == [
        (p.text, p.score, 5 - p.rank) for p in given[::-1]
    ]
    for mixed in again(model, dataset, given, 0.25):
        (own,) = [p.score for p in told if p.text == mixed.text]
        (their,) = [p.score for p in given if p.text == mixed.text]
        assert mixed.score == pytest.approx(0.75 * own + 0.25 * their, abs=1e-4)


def test_the_score_of_a_candidate_does_not_depend_on_the_others(
    model: Generator[Any], things: DataRef, words: Vocabs
) -> None:
    dataset = split_of(things, "val", words)
    told = ranked(model, dataset)
    told += [Prediction(told[0].id, 1, 0.0, text) for text in ("", "zebra " * 40, "A RED ball!")]
    together = again(model, dataset, told, 0.0)
    alone = [again(model, dataset, [p], 0.0)[0] for p in told]
    scores = {(p.id, p.text): p.score for p in together}
    for one in alone:
        assert scores[one.id, one.text] == pytest.approx(one.score, abs=1e-4)


def test_candidates_of_unknown_inputs_are_refused(
    model: Generator[Any], things: DataRef, words: Vocabs
) -> None:
    with pytest.raises(UserError, match=r"id 'thing 99', allowed"):
        again(model, split_of(things, "val", words), [Prediction("thing 99", 1, 0.0, "a")], 0.0)


def test_a_beam_is_as_wide_as_the_list_that_is_wanted(
    model: Generator[Any], things: DataRef, words: Vocabs
) -> None:
    dataset = split_of(things, "val", words)
    narrow = SEARCH.model_copy(update={"beam_size": 1})
    (found,) = rank_answers(model, dataset, [3], narrow, 4)
    (expected,) = beam(model, questions(dataset, [3]), 4, 6, 0.6)
    assert [a.score for a in found] == pytest.approx([h.score for h in expected], abs=1e-5)
