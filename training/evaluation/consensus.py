"""Of the sentences that a search found, the one that the others agree with most: minimum Bayes risk
(Kumar & Byrne 2004), for captions as in Devlin et al. 2015, "Exploring nearest neighbor approaches
for image captioning".

The likeliest sentence is often a safe one that says little. What many likely sentences share is
more probably right than what a single one says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.reward import MAX_N, SIGMA
from training.evaluation.search import Hypothesis


def rank_by_consensus(found: Sequence[Hypothesis], temperature: float) -> list[Hypothesis]:
    """Sentences about one thing, the one that is most like all of them first.

    Args:
        found: with their scores, in any order.
        temperature: above 0. Each counts as exp(score / temperature): near 0 the best of them
            counts alone, and comes first; far above all count alike.
    """
    scores = np.array([hypothesis.score for hypothesis in found])
    weights = np.exp((scores - scores.max()) / temperature)
    agreed = likeness([hypothesis.token_ids for hypothesis in found]) @ weights
    return [found[n] for n in np.argsort(-agreed, kind="stable")]


def likeness(sentences: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """How much each sentence is like each, [K, K], from 0 to 1: CIDEr-D (Vedantam et al. 2015) of
    the row's one with the column's as its reference, all words of one weight. Two that are both too
    short for a run of n words are alike in that."""
    alike = np.zeros((len(sentences), len(sentences)))
    for n in range(1, MAX_N + 1):
        runs = [[tuple(s[at : at + n]) for at in range(len(s) - n + 1)] or [()] for s in sentences]
        columns = {run: column for column, run in enumerate({run for some in runs for run in some})}
        counts = np.zeros((len(sentences), len(columns)))
        for row, some in enumerate(runs):
            for run in some:
                counts[row, columns[run]] += 1
        # What a sentence says oftener than its reference earns nothing.
        both = (np.minimum(counts[:, None], counts) * counts).sum(2)
        norms = np.linalg.norm(counts, axis=1)
        alike += both / np.outer(norms, norms)
    lengths = np.array([len(sentence) for sentence in sentences])
    apart = (lengths[:, None] - lengths) ** 2
    alike *= np.exp(-apart / (2 * SIGMA**2)) / MAX_N
    return alike
