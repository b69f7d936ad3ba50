"""What sentences agree on comes first."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intertitle.training.search.beam import Hypothesis
from intertitle.training.search.mbr import mbr_rank, pairwise_cider

SENTENCES = st.lists(st.lists(st.integers(4, 8), max_size=6).map(tuple), min_size=1, max_size=5)


def test_pairwise_cider_is_the_mean_ngram_cosine_with_a_length_penalty() -> None:
    alike = pairwise_cider([(5, 6, 7, 8), (5, 6, 7, 9), (4, 4)])
    # Three of four words, two of three pairs, one of two triples, no quadruple.
    assert alike[0, 1] == pytest.approx((3 / 4 + 2 / 3 + 1 / 2 + 0) / 4)
    assert alike[0, 2] == 0
    # Neither of these has a run of four words, and one has a word more.
    assert pairwise_cider([(4, 4, 4), (5, 6)])[0, 1] == pytest.approx(1 / 4 * np.exp(-1 / 72))
    # To say a word again earns nothing.
    assert pairwise_cider([(4, 4), (4,)])[0, 1] < pairwise_cider([(4,), (4, 4)])[0, 1]


@given(SENTENCES)
def test_pairwise_cider_of_a_sentence_with_itself_is_one(sentences: list[tuple[int, ...]]) -> None:
    alike = pairwise_cider(sentences)
    assert np.allclose(np.diag(alike), 1)
    assert (alike >= 0).all() and (alike <= 1 + 1e-9).all()


# exp of the far ones is 0, or infinite.
@pytest.mark.parametrize("level", [0.0, -5000.0, 5000.0])
def test_consensus_of_two_sentences_beats_the_most_probable_one(level: float) -> None:
    scores = (level - 1.0, level - 1.1, level - 1.2)
    sentences = ((4, 4, 9), (5, 6, 7), (5, 6, 8))
    odd, one, other = (
        Hypothesis(ids, score, score) for ids, score in zip(sentences, scores, strict=True)
    )
    assert mbr_rank([odd, one, other], 0.5) == [one, odd, other]


@given(SENTENCES)
def test_a_low_temperature_ranks_the_most_probable_first(sentences: list[tuple[int, ...]]) -> None:
    found = [Hypothesis(ids, -float(n), -float(n)) for n, ids in enumerate(sentences)]
    ranked = mbr_rank(found, 1e-3)
    assert sorted(ranked, key=found.index) == found
    assert set(ranked[0].token_ids) == set(found[0].token_ids)
