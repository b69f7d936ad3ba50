"""Minimum Bayes risk reranking of the sentences of a search (Kumar & Byrne 2004).

Sentences are ranked by their agreement with the others; for captions as in Devlin et al. 2015,
"Exploring nearest neighbor approaches for image captioning". The most probable sentence is often a
generic one. What many probable sentences have in common is more likely to be correct than the
content of a single one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intertitle.training.search.beam import Hypothesis
from intertitle.training.search.cider import MAX_N, SIGMA


def mbr_rank(hypotheses: Sequence[Hypothesis], temperature: float) -> list[Hypothesis]:
    """Rank the hypotheses of one example, the one that agrees most with all of them first.

    Args:
        hypotheses: hypotheses with their scores, in any order.
        temperature: temperature above 0. Each hypothesis has the weight exp(score / temperature):
            as the temperature approaches 0, only the best one counts, and comes first; at a high
            temperature all have equal weight.
    """
    scores = np.array([hypothesis.score for hypothesis in hypotheses])
    weights = np.exp((scores - scores.max()) / temperature)
    agreement = pairwise_cider([hypothesis.token_ids for hypothesis in hypotheses]) @ weights
    return [hypotheses[n] for n in np.argsort(-agreement, kind="stable")]


def pairwise_cider(sentences: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Compute the similarity of each pair of sentences, [K, K], from 0 to 1.

    It is CIDEr-D (Vedantam et al. 2015) of the row's sentence with the column's sentence as the
    reference, with the same weight for all tokens. Two sentences that are both shorter than n
    tokens are treated as equal in their n-grams.
    """
    similarity = np.zeros((len(sentences), len(sentences)))
    for n in range(1, MAX_N + 1):
        ngrams = [
            [tuple(s[start : start + n]) for start in range(len(s) - n + 1)] or [()]
            for s in sentences
        ]
        columns = {
            ngram: column
            for column, ngram in enumerate(
                {ngram for sentence_ngrams in ngrams for ngram in sentence_ngrams}
            )
        }
        counts = np.zeros((len(sentences), len(columns)))
        for row, sentence_ngrams in enumerate(ngrams):
            for ngram in sentence_ngrams:
                counts[row, columns[ngram]] += 1
        # Occurrences beyond the count in the reference contribute nothing.
        dots = (np.minimum(counts[:, None], counts) * counts).sum(2)
        norms = np.linalg.norm(counts, axis=1)
        similarity += dots / np.outer(norms, norms)
    lengths = np.array([len(sentence) for sentence in sentences])
    length_differences = (lengths[:, None] - lengths) ** 2
    similarity *= np.exp(-length_differences / (2 * SIGMA**2)) / MAX_N
    return similarity
