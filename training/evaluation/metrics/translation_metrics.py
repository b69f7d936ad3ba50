"""Metrics of raw text as sacreBLEU computes them: BLEU, chrF and TER.

sacreBLEU's import takes half a second, so it is imported when a metric is measured or combined.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from intertitle.training.config.metrics import Floats, Measured, Metric
from intertitle.training.evaluation.metrics.predictions import Predictions, References

Ngrams = Sequence[Counter[str]]


def _measure_bleu(predictions: Predictions) -> Measured:
    from sacrebleu.metrics import BLEU

    references = predictions.references

    def prepare() -> list[Any]:
        # A metric for each example, which has prepared the references of that example. sacreBLEU
        # takes the first references of all examples, then the second ones, and so on.
        return [
            BLEU(tokenize=references.tokenizer, references=[[text] for text in group])
            for group in references.texts
        ]

    metrics = references.prepared("sacrebleu", prepare)
    scores = [
        metric.corpus_score([text], None)
        for metric, text in zip(metrics, predictions.texts, strict=True)
    ]
    rows = [(score.sys_len, score.ref_len, *score.counts, *score.totals) for score in scores]
    return Measured(_signature(metrics[0], references), np.array(rows, np.float64))


def _bleu(sums: Floats) -> Floats:
    from sacrebleu.metrics import BLEU

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


def _measure_chrf(predictions: Predictions) -> Measured:
    from sacrebleu.metrics import CHRF
    from sacrebleu.metrics.helpers import extract_all_char_ngrams

    references = predictions.references

    def ngrams(text: str) -> list[Counter[str]]:
        counts: list[Counter[str]] = extract_all_char_ngrams(text, CHRF.CHAR_ORDER, False)
        return counts

    prepared = references.prepared(
        "chrf", lambda: [[ngrams(text) for text in group] for group in references.texts]
    )
    rows = [
        _closest(ngrams(text), group)
        for text, group in zip(predictions.texts, prepared, strict=True)
    ]
    metric = CHRF()
    metric.sentence_score("", [""])  # it has a signature once it has measured something
    return Measured(_signature(metric, references), np.array(rows, np.float64))


def _closest(hypothesis: Ngrams, references: Sequence[Ngrams]) -> Floats:
    """Return the statistics of the reference with the best score, [3 N]."""
    rows = np.array(
        [
            [
                # Without n-grams of a reference, those of the hypothesis do not count.
                count
                for left, right in zip(hypothesis, reference, strict=True)
                for count in (left.total() if right else 0, right.total(), (left & right).total())
            ]
            for reference in references
        ],
        np.float64,
    )
    closest: Floats = rows[_chrf(rows).argmax()]
    return closest


def _chrf(sums: Floats) -> Floats:
    """chrF2 (Popović 2015): F-score of the mean precision and recall of character n-grams."""
    hypothesis, reference, matched = np.moveaxis(sums.reshape(len(sums), -1, 3), 2, 0)
    counted = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(counted.sum(1), 1)
    precision = (matched / np.where(counted, hypothesis, np.inf)).sum(1) / orders
    recall = (matched / np.where(counted, reference, np.inf)).sum(1) / orders
    # Recall counts twice as much as precision.
    total = 4 * precision + recall
    scores: Floats = 100 * 5 * precision * recall / np.where(total > 0, total, 1)
    return scores


def _measure_ter(predictions: Predictions) -> Measured:
    from sacrebleu.metrics import TER

    metric, references = TER(), predictions.references
    scores = [
        metric.sentence_score(text, group)
        for text, group in zip(predictions.texts, references.texts, strict=True)
    ]
    rows = [(score.num_edits, score.ref_length) for score in scores]
    return Measured(_signature(metric, references), np.array(rows, np.float64))


def _ter(sums: Floats) -> Floats:
    """Translation edit rate (Snover et al. 2006): edits relative to the references' length."""
    edits, length = sums.T
    without_words = np.where(edits > 0, 1.0, 0.0)
    rates: Floats = 100 * np.where(
        length > 0, edits / np.where(length > 0, length, 1), without_words
    )
    return rates


def _signature(metric: Any, references: References) -> str:
    """Return the signature of a metric in the format of sacreBLEU."""
    signature = metric.get_signature()
    signature.update("nrefs", references.nrefs)
    return str(signature)


SACREBLEU = Metric(
    "sacrebleu",
    ("caption", "translation"),
    _measure_bleu,
    _bleu,
    # Captions have BLEU by the tokens of the other metrics.
    quick=("translation",),
    monitor=True,
    counts_words=True,
    histogram=True,
)
CHRF = Metric("chrf", ("translation",), _measure_chrf, _chrf, monitor=True, histogram=True)
# Its search for shifted words takes seconds for a thousand sentences.
TER = Metric(
    "ter",
    ("translation",),
    _measure_ter,
    _ter,
    smaller_is_better=True,
    quick=False,
    counts_words=True,
)
