"""Whose fault a wrong sentence is: a search error, if the model itself likes one of the references
better and the search has missed it, else an error of the model (Stahlberg & Byrne 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.config import SearchConfig
from training.data.dataset import Dataset
from training.data.tokenizer import UNK_ID

# A sentence that was found scores a little otherwise when it is read whole.
ROUNDING = 1e-4
NO_SEARCH_ERRORS = (
    "only a beam looks for the likeliest sentence: not drawing, nor a beam with a consensus, a "
    "coverage penalty, min_tokens, no_repeat_ngram or a prefix"
)


def reference_scores(
    told: NDArray[np.float64], dataset: Dataset, search: SearchConfig
) -> NDArray[np.float64] | None:
    """The score that a search would have had of each example's likeliest reference, [B].

    It is -inf where no reference could be found: with a word that the model does not know, or more
    words than a sentence may have. One that was cut to the length of the training counts as cut.

    Args:
        told: the nats and tokens of each row; see `surprise`.
        dataset: of the rows, which are sentences.
        search: by which sentences are found.

    Returns:
        None of a search that does not look for the likeliest sentence of all.
    """
    bounded = search.min_tokens or search.no_repeat_ngram or search.prefix
    if search.method != "beam" or search.coverage_penalty or search.consensus or bounded:
        return None
    found = np.full(len(dataset.examples), -np.inf)
    rows = np.arange(len(told))
    scores = -told[:, 0] / told[:, 1] ** search.length_penalty
    for owner, target, score in zip(
        dataset.owners(rows), dataset.targets(rows), scores.tolist(), strict=True
    ):
        if UNK_ID not in target and len(target) <= search.max_tokens:
            found[owner] = max(found[owner], score)
    return found


def search_errors(references: NDArray[np.float64], found: Sequence[float]) -> NDArray[np.float64]:
    """100 of an example whose reference scores better than what was found, else 0; [B]."""
    missed: NDArray[np.bool_] = references > np.asarray(found) + ROUNDING
    return 100.0 * missed.astype(np.float64)
