"""Names of the metrics that tests expect."""

from __future__ import annotations

BLEU_METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")
# Of captions.
ALL_METRICS = (*BLEU_METRICS, "sacrebleu", "meteor", "rouge_l", "cider", "exact_match")
# Of captions, without METEOR and what reads the raw text.
QUICK_METRICS = (*BLEU_METRICS, "rouge_l", "cider")
# Of all sentences, without Java.
TRANSLATION_METRICS = ("sacrebleu", "exact_match")
