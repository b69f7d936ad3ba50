"""Scorers of answers, by task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from intertitle.training.data.dataset import Dataset
from intertitle.training.data.task import Task
from intertitle.training.evaluation.answers import Answer
from intertitle.training.evaluation.metrics.answer_metrics import AnswerScorer, LabelScorer
from intertitle.training.evaluation.metrics.caption_metrics import (
    ALL_METRICS,
    QUICK_METRICS,
    TRANSLATION_METRICS,
    CaptionScorer,
)
from intertitle.training.evaluation.metrics.metric_tokenizer import AUTO, choose_tokenizer
from intertitle.training.evaluation.metrics.scores import Scores


class Scorer(Protocol):
    """Scores the answers to a fixed set of examples."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about scores that will not be meaningful, whatever the answers are."""
        ...

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        """Compute all metrics, or only those that are quick to compute."""
        ...


def make_scorer(dataset: Dataset, tokenizer: str = AUTO) -> Scorer:
    """Return the scorer of a task, for all examples of a split.

    Args:
        dataset: split to score.
        tokenizer: name of a metric tokenizer, or "auto"; see `EvaluationConfig`.

    Raises:
        UserError: the tokenizer is not available.
    """
    references = [example.targets for example in dataset.examples]
    if dataset.task.output == "sentence":
        language = dataset.target_language
        scorer = CaptionScorer(references, choose_tokenizer(tokenizer, language), language)
        return _SentenceScorer(scorer, dataset.task)
    return _LabelScorer(references, dataset.task)


class _SentenceScorer:
    def __init__(self, scorer: CaptionScorer, task: Task) -> None:
        self._scorer = scorer
        # Translations have their own metrics: coco-caption's would read them as English.
        self._is_translation = task.has_source

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._scorer.warnings

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        texts = [answer.texts[0] for answer in answers]
        if self._is_translation:
            return self._scorer.score(texts, TRANSLATION_METRICS)
        return self._scorer.score(texts, QUICK_METRICS if quick else ALL_METRICS)


class _LabelScorer:
    def __init__(self, references: Sequence[Sequence[str]], task: Task) -> None:
        self._one_a_frame = task.output == "label_per_frame"
        self._scorer: Any = (LabelScorer if self._one_a_frame else AnswerScorer)(references)
        self.warnings: tuple[str, ...] = ()

    def score(self, answers: Sequence[Answer], *, quick: bool) -> Scores:
        del quick  # all metrics are quick to compute
        texts = [a.texts if self._one_a_frame else a.texts[0] for a in answers]
        scores: Scores = self._scorer.score(texts)
        return scores
