"""Metrics as functions of statistics that are summed over examples.

Statistics are measured once per example. The score of any subset, and of each of a thousand
resamples, is computed from their sums. One thing always depends on the full set: the document
frequencies in CIDEr's score of an example.

| metric | an example's statistics, S of them |
| --- | --- |
| `bleu_N`, `sacrebleu` | lengths of hypothesis and closest reference; n-grams matched; n-grams |
| `meteor` | the 23 of `Meteor.statistics` |
| `nats_per_token`, `perplexity` | nats, tokens |
| all others | a score times its weight, the weight: 1, or a sequence's frames |
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

SMALLER_IS_BETTER = frozenset({"nats_per_token", "perplexity", "search_errors"})

_Floats = NDArray[np.float64]

# METEOR 1.5 for English, Denkowski and Lavie 2014, tables 1 and 2; the weights are those of its
# four matchers: exact, stem, synonym, paraphrase.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
# Constants that coco-caption adds to avoid divisions by 0.
_TINY, _SMALL = 1e-15, 1e-9


def combine(metric: str, sums: _Floats) -> _Floats:
    """Compute the scores of R sets of examples, on the metric's usual scale.

    Args:
        metric: name of the metric.
        sums: statistics summed over each set, [R, S]; for a set of one example, its statistics.

    Returns:
        Scores, [R].

    Raises:
        KeyError: there is no metric of this name.
    """
    return _COMBINE[metric](sums)


def score_of(metric: str, statistics: _Floats) -> float:
    """Compute the score of a set of B examples from their statistics, [B, S]."""
    return float(combine(metric, statistics.sum(0, keepdims=True))[0])


def _ratio(sums: _Floats) -> _Floats:
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def _perplexity(sums: _Floats) -> _Floats:
    with np.errstate(over="ignore"):
        return np.exp(_ratio(sums))


def _bleu(sums: _Floats) -> _Floats:
    """BLEU (Papineni et al. 2002), as coco-caption computes it."""
    hypothesis, reference = sums[:, 0], sums[:, 1]
    matched, total = np.split(sums[:, 2:], 2, axis=1)
    precisions = (matched + _TINY) / (total + _SMALL)
    ratio = (hypothesis + _TINY) / (reference + _SMALL)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    mean: _Floats = precisions.prod(1) ** (1 / precisions.shape[1])
    return 100 * brevity * mean


def _sacrebleu(sums: _Floats) -> _Floats:
    from sacrebleu.metrics import BLEU  # the import takes half a second

    scores = (
        BLEU.compute_bleu(matched, total, *lengths, smooth_method="exp").score
        for lengths, matched, total in zip(
            sums[:, :2].astype(int).tolist(),
            sums[:, 2:6].tolist(),
            sums[:, 6:].tolist(),
            strict=True,
        )
    )
    return np.fromiter(scores, np.float64, len(sums))


def _meteor(sums: _Floats) -> _Floats:
    """METEOR (Denkowski and Lavie, "Meteor Universal", 2014), equations 1 to 5."""
    # Pairs hold the values of the hypothesis and of the reference, [R, 2].
    words, function_words = sums[:, :2], sums[:, 2:4]
    matchers = sums[:, 4:20].reshape(-1, 4, 4)
    content, function = matchers[..., :2], matchers[..., 2:]
    chunks, matched_words = sums[:, 20], sums[:, 21:]
    weighted = _MATCHER_WEIGHTS @ (_DELTA * content + (1 - _DELTA) * function)
    lengths = _DELTA * (words - function_words) + (1 - _DELTA) * function_words
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = (weighted / lengths).T
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        fragmentation = chunks / matched_words.mean(1)
    # If nothing matches, the score is 0 / 0.
    scores: _Floats = np.nan_to_num(mean * (1 - _GAMMA * fragmentation**_BETA), nan=0)
    return 100 * scores


_COMBINE: dict[str, Callable[[_Floats], _Floats]] = {
    **{f"bleu_{n}": _bleu for n in range(1, 5)},
    "sacrebleu": _sacrebleu,
    "meteor": _meteor,
    "rouge_l": _ratio,
    "cider": _ratio,
    "exact_match": _ratio,
    "accuracy": _ratio,
    "vqa_accuracy": _ratio,
    "nats_per_token": _ratio,
    "perplexity": _perplexity,
    "search_errors": _ratio,
}

METRICS = tuple(_COMBINE)
"""All that there are, by name."""
