"""Metrics of the model itself, which the evaluation measures without its predictions' texts."""

import numpy as np

from intertitle.training.config.metrics import Floats, Metric, ratio


def _perplexity(sums: Floats) -> Floats:
    with np.errstate(over="ignore"):
        perplexities: Floats = np.exp(ratio(sums))
    return perplexities


NATS_PER_TOKEN = Metric("nats_per_token", (), None, smaller_is_better=True)
PERPLEXITY = Metric("perplexity", (), None, _perplexity, smaller_is_better=True)
SEARCH_ERRORS = Metric("search_errors", (), None, smaller_is_better=True)
