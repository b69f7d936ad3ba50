"""METEOR of English captions and translations, from the statistics that its program prints."""

import numpy as np

from intertitle.training.config.metrics import Floats, Measured, Metric, NotMeasuredError
from intertitle.training.evaluation.metrics import meteor
from intertitle.training.evaluation.metrics.metric_tokenizer import why_no_meteor
from intertitle.training.evaluation.metrics.predictions import Predictions

# METEOR 1.5 for English, Denkowski and Lavie 2014, tables 1 and 2; the weights are those of its
# four matchers: exact, stem, synonym, paraphrase.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])


def _measure(predictions: Predictions) -> Measured:
    references = predictions.references
    reason = why_no_meteor(references.tokenizer, references.language, predictions.task)
    if reason:
        raise NotMeasuredError(reason)
    if predictions.task == "translation":
        # METEOR splits the words of the raw text itself (`-norm`).
        statistics = meteor.METEOR.statistics(predictions.texts, references.texts)
        signature = f"meteor|1.5|lang:en|norm|nrefs:{references.nrefs}"
    else:
        statistics = meteor.METEOR.statistics(predictions.tokens, references.tokens)
        signature = references.coco_signature("meteor", "1.5", "lang:en", "norm")
    return Measured(signature, statistics)


def _meteor(sums: Floats) -> Floats:
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
    scores: Floats = np.nan_to_num(mean * (1 - _GAMMA * fragmentation**_BETA), nan=0)
    return 100 * scores


METEOR = Metric(
    "meteor",
    ("caption", "translation"),
    _measure,
    _meteor,
    # Java takes ten seconds to load its paraphrases.
    quick=False,
    counts_words=True,
    histogram=True,
)
