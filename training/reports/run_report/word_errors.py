"""Errors of single words of predictions: which are invented, and which are missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from intertitle.training.evaluation.metrics.metric_tokenizer import DEFAULT, open_tokenizer
from intertitle.training.evaluation.record import EvaluationRecord

# Maximum number of words that are listed.
NUM_WORDS = 15


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Numbers of examples by what became of a word.

    Attributes:
        word: word; for a task of labels, a label.
        predicted: number of examples whose prediction has the word.
        invented: number of `predicted` none of whose references has the word.
        expected: number of examples most of whose references have the word.
        missing: number of `expected` whose prediction lacks the word.
    """

    word: str
    predicted: int
    invented: int
    expected: int
    missing: int


def word_errors(record: EvaluationRecord) -> list[WordErrors]:
    """Return the words with the most errors, the most frequent first.

    The words of sentences are those of the metrics, in lower case. Without references, and for the
    labels of frames, there are none.
    """
    task = record.description.get("task")
    if task not in ("caption", "translation", "label", "answer"):
        return []
    tokenizer = record.description.get("tokenizer", DEFAULT)
    is_sentence = task in ("caption", "translation")
    predicted: Counter[str] = Counter()
    invented: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    for hypothesis, references in zip(record.hypotheses, record.references, strict=True):
        if not references:
            continue
        words, *reference_words = (
            _words(text, tokenizer) if is_sentence else {text} - {""}
            for text in (hypothesis, *references)
        )
        counts = Counter(word for group in reference_words for word in group)
        agreed = {word for word, count in counts.items() if 2 * count > len(references)}
        predicted.update(words)
        invented.update(words - counts.keys())
        expected.update(agreed)
        missing.update(agreed - words)
    return [
        WordErrors(word, predicted[word], invented[word], expected[word], missing[word])
        for word, _ in (invented + missing).most_common(NUM_WORDS)
    ]


def _words(text: str, tokenizer: str) -> set[str]:
    """Return the words of a sentence, without punctuation."""
    tokens = open_tokenizer(tokenizer)(text.lower()).split()
    return {token for token in tokens if any(c.isalnum() for c in token)}
