"""CIDEr-D of token ids against pycocoevalcap's, over the same tokens as words."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.cider.cider_scorer import CiderScorer

from intertitle.pipeline.errors import UserError
from intertitle.training.search.cider import CiderReward

Ids = Sequence[int]

# Few words, so that n-grams repeat within a sentence and over examples; 5 to 7 are in no reference.
example = st.tuples(
    st.lists(st.lists(st.integers(0, 4), max_size=9), min_size=1, max_size=3),
    st.lists(st.integers(0, 7), max_size=12),
)


def words(ids: Ids) -> str:
    return " ".join(f"w{token}" for token in ids)


def expected(references: Sequence[Sequence[Ids]], hypotheses: Sequence[Ids]) -> list[float]:
    """pycocoevalcap's scores of a hypothesis for each example."""
    scorer = CiderScorer()
    for hypothesis, group in zip(hypotheses, references, strict=True):
        scorer.cook_append(words(hypothesis), [words(reference) for reference in group])
    scorer.compute_doc_freq()
    return [float(score) for score in scorer.compute_cider()]


@given(st.lists(example, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_it_equals_pycocoevalcap(
    drawn: list[tuple[list[list[int]], list[int]]], dice: random.Random
) -> None:
    references, hypotheses = [group for group, _ in drawn], [hypothesis for _, hypothesis in drawn]
    want = expected(references, hypotheses)
    batch = dice.choices(range(len(drawn)), k=len(drawn) + 2)  # not all, and some twice
    got = CiderReward(references).score(batch, [hypotheses[index] for index in batch])
    np.testing.assert_allclose(got, [want[index] for index in batch], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "hypothesis", [[], [3], [9], [3, 3, 3, 3, 3], [3, 1, 4, 1, 5], [1, 4, 1, 5, 9, 2, 6, 5, 3] * 3]
)
def test_it_equals_pycocoevalcap_for_sentences_of_any_length(hypothesis: list[int]) -> None:
    references = [[[3, 1, 4, 1, 5], [3], []], [[3, 3, 3, 9]], [[2, 7, 1, 8]], [[]]]
    hypotheses = [hypothesis] * len(references)
    got = CiderReward(references).score(range(len(references)), hypotheses)
    np.testing.assert_allclose(got, expected(references, hypotheses), rtol=0, atol=1e-9)


def test_several_hypotheses_of_one_example_are_scored_apart() -> None:
    reward = CiderReward([[[1, 2, 3, 4, 5]], [[6, 7, 8, 9]]])
    got = reward.score([0, 0, 1, 0], [[1, 2, 3, 4, 5], [1, 2], [1, 2], []])
    assert got[0] == pytest.approx(10)
    assert got[0] > got[1] > got[2] == got[3] == 0
    assert reward.score([], []).shape == (0,)


def test_many_hypotheses_are_scored_at_once() -> None:
    reward = CiderReward([[[1, 2, 3, 4, 5]], [[6, 7, 8, 9]]])
    one = reward.score([0, 1], [[1, 2, 3], [6, 7, 9]])
    many = reward.score([0, 1] * 200, [[1, 2, 3], [6, 7, 9]] * 200)
    np.testing.assert_allclose(many, [*one] * 200)


def test_ids_need_not_be_dense() -> None:
    big = 2**31 - 1
    got = CiderReward([[[0, big, 0, big]], [[5]]]).score([0, 0], [[0, big, 0, big], [big, 0]])
    small = CiderReward([[[0, 1, 0, 1]], [[5]]]).score([0, 0], [[0, 1, 0, 1], [1, 0]])
    np.testing.assert_array_equal(got, small)


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(UserError, match="0 examples"):
        CiderReward([])
    with pytest.raises(UserError, match="example 1 has none"):
        CiderReward([[[1]], []])
    reward = CiderReward([[[1]], [[2]], [[3]], [[4]]])
    with pytest.raises(ValueError, match="2 examples for 1 hypotheses"):
        reward.score([0, 0], [[1]])
    for outside in (-1, 4):
        with pytest.raises(IndexError, match=r"0 to 3$"):
            reward.score([outside], [[1]])
