"""Metrics as functions of statistics that are summed over examples.

Statistics are measured once per example. The score of any subset, and of each of a thousand
resamples, is computed from their sums. One thing always depends on the full set: the document
frequencies in CIDEr's score of an example.

| metric | an example's statistics, S of them |
| --- | --- |
| `bleu_N`, `sacrebleu` | lengths of hypothesis and closest reference; n-grams matched; n-grams |
| `chrf` | for each n: n-grams of the hypothesis, of the reference, matched |
| `ter` | edits, mean length of the references |
| `meteor` | the 23 of `Meteor.statistics` |
| `nats_per_token`, `perplexity` | nats, tokens |
| all others | a score times its weight, the weight: 1, or a sequence's frames |
"""

from intertitle.training.config.metrics import METRICS, Floats


def combine(metric: str, sums: Floats) -> Floats:
    """Compute the scores of R sets of examples, on the metric's usual scale.

    Args:
        metric: name of the metric.
        sums: statistics summed over each set, [R, S]; for a set of one example, its statistics.

    Returns:
        Scores, [R].

    Raises:
        UserError: there is no metric of this name.
    """
    return METRICS.load(metric, "metric").combine(sums)


def score_of(metric: str, statistics: Floats) -> float:
    """Compute the score of a set of B examples from their statistics, [B, S]."""
    return float(combine(metric, statistics.sum(0, keepdims=True))[0])


def smaller_is_better(metric: str) -> bool:
    """Return whether a smaller score of a metric is better."""
    return METRICS.load(metric, "metric").smaller_is_better
