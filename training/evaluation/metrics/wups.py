"""WUPS of answers to questions: Wu-Palmer similarity of the sets of their words.

Malinowski & Fritz 2014, "A Multi-World Approach to Question Answering about Real-World Scenes based
on Uncertain Input", section 4.1, and their program `calculate_wups.py`.

| name | threshold |
| --- | --- |
| `wups_0_9` | 0.9: less similar words count a tenth of their similarity |
| `wups_0_0` | 0: all words count their similarity |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from statistics import mode

from intertitle.training.config.metrics import Measured, Metric
from intertitle.training.evaluation.metrics.predictions import Predictions
from intertitle.training.evaluation.metrics.scores import weighted
from intertitle.training.evaluation.metrics.wordnet import Nouns, open_nouns

# Factor of the similarity of words below the threshold.
_DOWN_WEIGHT = 0.1


def wups(answer: str, reference: str, threshold: float, nouns: Nouns) -> float:
    """Compute the WUPS of an answer, from 0 to 1.

    Answer and reference are sets of words, separated by commas. Each word has the similarity of the
    most similar word of the other set. The score is the smaller one of the product over the
    answer's words and that over the reference's.

    Args:
        answer: answer, such as "book, scissor".
        reference: right answer.
        threshold: similarity below which the similarity of two words is multiplied by 0.1.
        nouns: taxonomy that the similarity is computed in.
    """

    def similarity(first: str, second: str) -> float:
        if first == second:
            return 1.0
        value = nouns.similarity(first, second)
        return value if value >= threshold else _DOWN_WEIGHT * value

    answers, references = _words(answer), _words(reference)
    return min(_cover(answers, references, similarity), _cover(references, answers, similarity))


def _words(answer: str) -> list[str]:
    return [word.strip() for word in answer.split(",")]


def _cover(
    words: list[str], candidates: list[str], similarity: Callable[[str, str], float]
) -> float:
    """Return the product of the largest similarity of each word to one of the candidates."""
    return prod(max(similarity(word, candidate) for candidate in candidates) for word in words)


def _measure(predictions: Predictions, threshold: float) -> Measured:
    """Measure the mean WUPS; of several references, the most common one is right."""
    references, nouns = predictions.references, open_nouns()
    scores = [
        100 * wups(text, mode(group), threshold, nouns)
        for text, group in zip(predictions.texts, references.texts, strict=True)
    ]
    signature = f"wups|threshold:{threshold}|ref:majority|nrefs:{references.nrefs}|wordnet:3.0"
    return Measured(signature, weighted(scores))


WUPS_0_9 = Metric("wups_0_9", ("answer",), partial(_measure, threshold=0.9), quick=False)
WUPS_0_0 = Metric("wups_0_0", ("answer",), partial(_measure, threshold=0.0), quick=False)
