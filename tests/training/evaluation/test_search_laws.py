"""What every way of finding sentences promises, for every recipe that writes."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import pytest
import torch

from intertitle.pipeline.errors import UserError
from intertitle.training.data.tokenizer import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from intertitle.training.models.base import Generator
from intertitle.training.models.ensemble import Ensemble
from intertitle.training.search.beam import Hypothesis, beam
from intertitle.training.search.constraints import Constraints
from intertitle.training.search.sampling import SamplingParams, sample, uniforms
from tests.training.generators import (
    ATTENDING,
    WRITING,
    batch_of,
    make_generator,
    rows_for,
    told_by_steps,
)

NEVER = [PAD_ID, BOS_ID, UNK_ID]
MAX_TOKENS = 6
RULES = {
    "free": Constraints(),
    "ruled": Constraints(min_tokens=2, no_repeat_ngram=2, prefix=(5,)),
    "no word twice": Constraints(no_repeat_ngram=1),
}
# A template writes its own sentence, whose beginning cannot be changed.
UNFORCED = [name for name in WRITING if name != "template"]


@pytest.fixture(params=WRITING)
def model(request: pytest.FixtureRequest) -> Generator[Any]:
    return make_generator(request.param)


def ids(found: list[list[Hypothesis]]) -> list[list[tuple[int, ...]]]:
    return [[hypothesis.token_ids for hypothesis in row] for row in found]


def rules_for(model: Generator[Any], name: str) -> Constraints:
    rules = RULES[name]
    is_template = type(model).__name__ == "Template"
    return Constraints(rules.min_tokens, rules.no_repeat_ngram) if is_template else rules


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_gives_the_sentences_of_its_rows_alone(
    model: Generator[Any], beam_size: int, name: str
) -> None:
    rows, rules = rows_for(model), rules_for(model, name)
    together = beam(model, batch_of(rows), beam_size, MAX_TOKENS, 0.7, rules=rules)
    for row, among in zip(rows, together, strict=True):
        (alone,) = beam(model, batch_of([row]), beam_size, MAX_TOKENS, 0.7, rules=rules)
        assert ids([alone]) == ids([among])
        assert [h.score for h in alone] == pytest.approx([h.score for h in among], abs=1e-4)


def test_samples_of_a_row_depend_only_on_its_number(model: Generator[Any]) -> None:
    rows = rows_for(model)
    how, rules = SamplingParams(temperature=1.5, top_k=6, top_p=0.95), rules_for(model, "ruled")

    def drawn(numbers: list[int], num: int = 2) -> list[list[tuple[int, ...]]]:
        chances = uniforms(3, numbers, num, MAX_TOKENS + 1)
        batch = batch_of([rows[n] for n in numbers])
        found = sample(model, batch, MAX_TOKENS, chances, how, 0.0, rules=rules)
        return [sorted(row) for row in ids(found)]

    together = drawn(list(range(len(rows))))
    assert together == [drawn([n])[0] for n in range(len(rows))]
    assert together[::-1] == drawn(list(range(len(rows)))[::-1])
    assert all(
        set(few) <= set(many) for few, many in zip(together, drawn([*range(6)], 4), strict=True)
    )


@torch.no_grad()
def greedily(model: Generator[Any], row: Any, rules: Constraints) -> tuple[int, ...]:
    """Greedy search as anyone would write it."""
    state, words, word = model.start(batch_of([row])), (), BOS_ID
    while True:
        told, state = model.step(state, torch.tensor([word]))
        if len(words) < len(rules.prefix):
            word = rules.prefix[len(words)]
        elif len(words) == MAX_TOKENS:
            return words
        else:
            allowed = [
                token
                for token in range(told.shape[1])
                if token not in NEVER
                and told[0, token] > -torch.inf
                and not (token == EOS_ID and len(words) < rules.min_tokens)
                and not repeats((*words, token), rules.no_repeat_ngram)
            ]
            word = max(allowed, key=lambda token: float(told[0, token]), default=EOS_ID)
            if word == EOS_ID:
                return words
        words = (*words, word)


def repeats(words: tuple[int, ...], n: int) -> bool:
    grams = [words[at : at + n] for at in range(len(words) - n + 1)] if n else []
    return len(set(grams)) < len(grams)


@pytest.mark.parametrize("name", RULES)
def test_a_beam_of_one_is_greedy(model: Generator[Any], name: str) -> None:
    rules, rows = rules_for(model, name), rows_for(model)
    expected = [[greedily(model, row, rules)] for row in rows]
    for length_penalty in (0.0, 0.7, 2.0):
        found = beam(model, batch_of(rows), 1, MAX_TOKENS, length_penalty, rules=rules)
        assert ids(found) == expected


@pytest.mark.parametrize("name", RULES)
def test_n_best_are_sorted_and_scored_as_by_the_model(model: Generator[Any], name: str) -> None:
    rules, rows = rules_for(model, name), rows_for(model)
    beamed = beam(model, batch_of(rows), 4, MAX_TOKENS, 0.7, rules=rules)
    chances = uniforms(0, range(len(rows)), 4, MAX_TOKENS + 1)
    drawn = sample(
        model, batch_of(rows), MAX_TOKENS, chances, SamplingParams(1.3), 0.7, rules=rules
    )
    assert all(len(set(row)) == len(row) for row in ids(beamed))
    for row, found in [*zip(rows, beamed, strict=True), *zip(rows, drawn, strict=True)]:
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for hypothesis in found:
            words = hypothesis.token_ids
            told, _ = told_by_steps(model, row, words)
            total = sum(float(t[w]) for t, w in zip(told, (*words, EOS_ID), strict=True))
            assert hypothesis.log_prob == pytest.approx(total, abs=1e-3)
            assert hypothesis.score == pytest.approx(total / (len(words) + 1) ** 0.7, abs=1e-3)
            assert not {*words} & {*NEVER, EOS_ID} and len(words) <= MAX_TOKENS
            assert words[: len(rules.prefix)] == rules.prefix
            assert not repeats(words, rules.no_repeat_ngram)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 2.0])
def test_the_best_are_the_same_however_few_are_wanted(
    model: Generator[Any], length_penalty: float
) -> None:
    batch = batch_of(rows_for(model))
    found = ids(beam(model, batch, 4, MAX_TOKENS, length_penalty))
    for num in (1, 2):
        some = beam(model, batch, 4, MAX_TOKENS, length_penalty, num=num)
        assert ids(some) == [row[:num] for row in found]


@pytest.mark.parametrize("recipe", UNFORCED)
def test_no_sentence_is_shorter_than_allowed(recipe: str) -> None:
    model = make_generator(recipe)
    batch, rules = batch_of(rows_for(model)), Constraints(min_tokens=4)
    chances = uniforms(0, range(6), 3, MAX_TOKENS + 1)
    found = beam(model, batch, 3, MAX_TOKENS, 0.7, rules=rules)
    found += sample(model, batch, MAX_TOKENS, chances, SamplingParams(), 0.7, rules=rules)
    assert {len(words) for row in ids(found) for words in row} <= {4, 5, 6}


def test_where_the_rules_leave_no_word_a_sentence_ends() -> None:
    model = make_generator("s2vt", vocabulary=4 + 2)
    rules = Constraints(min_tokens=5, no_repeat_ngram=1)
    found = beam(model, batch_of(rows_for(model)), 3, MAX_TOKENS, 0.0, rules=rules)
    assert all({frozenset(words) for words in row} == {frozenset({4, 5})} for row in ids(found))


def test_a_prefix_that_a_model_cannot_write_is_refused() -> None:
    model = make_generator("template")
    with pytest.raises(UserError, match=r"search\.prefix"):
        beam(
            model,
            batch_of(rows_for(model)),
            3,
            MAX_TOKENS,
            0.7,
            rules=Constraints(prefix=(9, 9, 9)),
        )


# Two words, and each sentence of at most three.
TINY = 4 + 2
SENTENCES = [words for n in range(4) for words in product((4, 5), repeat=n)]


@pytest.mark.parametrize("recipe", UNFORCED)
@pytest.mark.parametrize(
    ("rules", "length_penalty"),
    [
        (Constraints(), 0.7),
        (Constraints(), 0.0),
        (Constraints(min_tokens=1, no_repeat_ngram=2, prefix=(5,)), 0.7),
    ],
)
def test_a_beam_wide_enough_ranks_all_sentences_that_there_may_be(
    recipe: str, rules: Constraints, length_penalty: float
) -> None:
    model = make_generator(recipe, TINY)
    rows = rows_for(model)
    coverage = 0.4 if recipe in ATTENDING else 0.0
    found = beam(
        model, batch_of(rows), 20, 3, length_penalty, coverage_penalty=coverage, rules=rules
    )
    for row, ranked in zip(rows, found, strict=True):
        scores = {}
        for words in SENTENCES:
            if words[: len(rules.prefix)] != rules.prefix or len(words) < rules.min_tokens:
                continue
            if repeats(words, rules.no_repeat_ngram):
                continue
            told, looks = told_by_steps(model, row, words)
            total = sum(float(t[w]) for t, w in zip(told, (*words, EOS_ID), strict=True))
            scores[words] = total / (len(words) + 1) ** length_penalty
            if coverage:
                covered = torch.stack(looks).sum(0).clamp(1e-6, 1)
                scores[words] += coverage * float(covered.log().sum())
        best = sorted(scores, key=lambda words: -scores[words])
        assert ids([ranked]) == [best]
        assert [h.score for h in ranked] == pytest.approx([scores[w] for w in best], abs=1e-3)


@pytest.mark.parametrize("recipe", ATTENDING)
def test_attention_weights_cover_only_valid_positions(recipe: str) -> None:
    model = make_generator(recipe)
    rows = rows_for(model)
    with torch.no_grad():
        _, state = model.step(model.start(batch_of(rows)), torch.full((6,), BOS_ID))
    look = model.attention_weights(state)
    assert look is not None
    assert torch.allclose(look.weights.sum(1), torch.ones(6), atol=1e-5)
    assert not look.weights[look.padding_mask].any()
    chosen = model.attention_weights(state.select(torch.tensor([4, 0])))
    assert chosen is not None
    for n, row in enumerate((rows[4], rows[0])):
        _, (alone, *_) = told_by_steps(model, row, ())
        assert torch.allclose(chosen.weights[n, : len(alone)], alone, atol=1e-5)


@pytest.mark.parametrize("recipe", ATTENDING)
def test_an_ensemble_applies_the_coverage_penalty_as_its_members(recipe: str) -> None:
    model = make_generator(recipe)
    together = Ensemble([model, model]).eval()
    batch = batch_of(rows_for(model))
    alone, both = (
        beam(m, batch, 3, MAX_TOKENS, 0.7, coverage_penalty=0.3) for m in (model, together)
    )
    assert ids(alone) == ids(both)
    assert [h.score for r in alone for h in r] == pytest.approx(
        [h.score for r in both for h in r], abs=1e-3
    )


def test_attention_to_a_reversed_source_is_in_source_order() -> None:
    model, backwards = (make_generator("seq2seq_attention") for _ in range(2))
    backwards.reversed = True
    row = rows_for(model)[0]
    mirrored = type(row)(source=tuple(reversed(row.source)))
    _, straight = told_by_steps(model, row, (4, 5))
    _, turned = told_by_steps(backwards, mirrored, (4, 5))
    for one, other in zip(straight, turned, strict=True):
        assert torch.allclose(one, other.flip(0), atol=1e-6)


def test_a_coverage_penalty_needs_attention() -> None:
    model = make_generator("s2vt")
    with pytest.raises(UserError, match=r"search\.coverage_penalty: 0\.2, allowed: 0"):
        beam(model, batch_of(rows_for(model)), 2, 3, 0.7, coverage_penalty=0.2)


def test_repeated_words_are_repeated_where_they_may_be() -> None:
    found = beam(make_generator("s2vt"), batch_of(rows_for(make_generator("s2vt"))), 4, 6, 0.7)
    told = [words for row in ids(found) for words in row]
    assert any(repeats(words, 1) for words in told)
    assert any(one == other for words in told for one, other in pairwise(words))
