"""Search errors: a reference has a better score than the sentence that the search returned.

Any other wrong sentence is an error of the model (Stahlberg & Byrne 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intertitle.training.config.sections import SearchConfig
from intertitle.training.data.dataset import Dataset
from intertitle.training.data.tokenizer import UNK_ID

# The score of a generated sentence differs a little from that of the same sentence read at once.
SCORE_TOLERANCE = 1e-4
NO_SEARCH_ERRORS = (
    "only a beam looks for the likeliest sentence: not drawing, nor a beam with a consensus, a "
    "coverage penalty, min_tokens, no_repeat_ngram or a prefix"
)


def reference_scores(
    nll: NDArray[np.float64], dataset: Dataset, search: SearchConfig
) -> NDArray[np.float64] | None:
    """Compute the score that a search would give to the most probable reference of each example.

    It is -inf for an example without a reference that the search could generate: references with an
    unknown token or with more than `max_tokens` tokens can't be generated. A reference that was
    truncated for training counts in its truncated form.

    Args:
        nll: sum of -log p and number of tokens of each row, [rows, 2]; see
            `negative_log_likelihood`.
        dataset: dataset that the rows are from, with sentences as targets.
        search: settings of the search.

    Returns:
        Scores, [B]; None if the search does not look for the most probable sentence.
    """
    bounded = search.min_tokens or search.no_repeat_ngram or search.prefix
    if search.method != "beam" or search.coverage_penalty or search.consensus or bounded:
        return None
    best = np.full(len(dataset.examples), -np.inf)
    rows = np.arange(len(nll))
    scores = -nll[:, 0] / nll[:, 1] ** search.length_penalty
    for owner, target, score in zip(
        dataset.example_index(rows), dataset.targets(rows), scores.tolist(), strict=True
    ):
        if UNK_ID not in target and len(target) <= search.max_tokens:
            best[owner] = max(best[owner], score)
    return best


def search_errors(
    references: NDArray[np.float64], search_scores: Sequence[float]
) -> NDArray[np.float64]:
    """Return 100 for each example with a reference that scores above the search result, else 0.

    Args:
        references: results of `reference_scores`, [B].
        search_scores: scores of the sentences that the search returned, [B].

    Returns:
        Search errors, [B].
    """
    missed: NDArray[np.bool_] = references > np.asarray(search_scores) + SCORE_TOLERANCE
    return 100.0 * missed.astype(np.float64)
