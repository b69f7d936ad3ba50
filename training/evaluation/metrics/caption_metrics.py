"""Metrics of captions as coco-caption computes them: BLEU, ROUGE-L and CIDEr.

They read the text through the PTB tokenizer and equal the results of pycocoevalcap's own pipeline,
unless the language needs another tokenizer, whose tokens they count in lower case, without
punctuation. BLEU and ROUGE-L range from 0 to 100; CIDEr has the scale of its authors.

| name | paper |
| --- | --- |
| `bleu_1` … `bleu_4` | Papineni et al., "BLEU", 2002; of the corpus, closest reference length |
| `rouge_l` | Lin, "ROUGE", 2004; beta 1.2, best precision and best recall over references |
| `cider` | Vedantam et al., "CIDEr", 2015; document frequencies of these references |
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.rouge.rouge import Rouge

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import Floats, Measured, Metric
from intertitle.training.evaluation.metrics.predictions import Predictions, References
from intertitle.training.evaluation.metrics.scores import weighted
from intertitle.training.search.cider import MAX_N, SIGMA, CiderReward

_MAX_BLEU = 4
# Constants that coco-caption adds to avoid divisions by 0.
_TINY, _SMALL = 1e-15, 1e-9


def _measure_bleu(max_n: int, predictions: Predictions) -> Measured:
    counts = predictions.shared("bleu", partial(_ngram_counts, predictions))
    rows = [
        (*lengths, *ngrams["correct"][:max_n], *ngrams["guess"][:max_n])
        for lengths, ngrams in counts
    ]
    signature = predictions.references.coco_signature("bleu", f"n:{max_n}", "eff:closest")
    return Measured(signature, np.array(rows, np.float64))


def _ngram_counts(predictions: Predictions) -> list[tuple[tuple[int, int], Any]]:
    """Return the lengths of each hypothesis and its closest reference, and its n-grams."""
    references = predictions.references

    def prepare() -> Any:
        scorer = BleuScorer(n=_MAX_BLEU)
        for group in references.tokens:
            scorer.cook_append(None, group)
        return scorer

    scorer = references.prepared("bleu", prepare)
    # The copy shares the n-gram counts of the references.
    counts = scorer.copy().retest(predictions.tokens).ctest
    return [((c["testlen"], _closest(c["reflen"], c["testlen"])), c) for c in counts]


def _bleu(sums: Floats) -> Floats:
    """BLEU (Papineni et al. 2002), as coco-caption computes it."""
    hypothesis, reference = sums[:, 0], sums[:, 1]
    matched, total = np.split(sums[:, 2:], 2, axis=1)
    precisions = (matched + _TINY) / (total + _SMALL)
    ratio = (hypothesis + _TINY) / (reference + _SMALL)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    mean: Floats = precisions.prod(1) ** (1 / precisions.shape[1])
    return 100 * brevity * mean


def _closest(lengths: Iterable[int], length: int) -> int:
    """Return the closest of several lengths; of equally close ones, the shortest."""
    return min(lengths, key=lambda candidate: (abs(candidate - length), candidate))


def _measure_rouge_l(predictions: Predictions) -> Measured:
    rouge = Rouge()
    example_scores = [
        100 * rouge.calc_score([hypothesis], group)
        for hypothesis, group in zip(predictions.tokens, predictions.references.tokens, strict=True)
    ]
    signature = predictions.references.coco_signature("rouge_l", f"beta:{rouge.beta}")
    return Measured(signature, weighted(example_scores))


def _measure_cider(predictions: Predictions) -> Measured:
    """Measure CIDEr.

    For a set with one example it is 0: n-grams that occur in every document have no weight.

    Raises:
        UserError: no reference has any word.
    """
    references = predictions.references
    if not any(any(group) for group in references.tokens):
        raise UserError("references: no word in any of them; CIDEr needs at least 1")
    word_ids, reward = references.prepared("cider", partial(_prepare_cider, references))
    token_ids = [
        [word_ids.setdefault(word, len(word_ids)) for word in text.split()]
        for text in predictions.tokens
    ]
    example_scores = reward.score(range(len(token_ids)), token_ids)
    signature = references.coco_signature("cider", f"n:{MAX_N}", f"sigma:{SIGMA}", "df:refs")
    return Measured(signature, weighted(example_scores))


def _prepare_cider(references: References) -> tuple[dict[str, int], CiderReward]:
    """Return ids of the references' words, and the references by these ids."""
    words = (word for group in references.tokens for text in group for word in text.split())
    word_ids = {word: number for number, word in enumerate(dict.fromkeys(words))}
    ids = [[[word_ids[w] for w in text.split()] for text in group] for group in references.tokens]
    return word_ids, CiderReward(ids)


def _bleu_metric(max_n: int) -> Metric:
    return Metric(
        f"bleu_{max_n}",
        ("caption",),
        partial(_measure_bleu, max_n),
        _bleu,
        monitor=max_n == _MAX_BLEU,
        counts_words=True,
    )


BLEU_1, BLEU_2, BLEU_3, BLEU_4 = (_bleu_metric(max_n) for max_n in range(1, _MAX_BLEU + 1))
ROUGE_L = Metric("rouge_l", ("caption",), _measure_rouge_l, counts_words=True, histogram=True)
CIDER = Metric(
    "cider", ("caption",), _measure_cider, monitor=True, counts_words=True, histogram=True
)
