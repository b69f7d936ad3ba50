"""Scorers: the metrics of a task, measured on its predictions."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import (
    METRICS,
    Measured,
    Metric,
    MetricTask,
    NotMeasuredError,
    metric_task,
    metrics_of,
)
from intertitle.training.config.sections import EvaluationConfig
from intertitle.training.data.dataset import Dataset
from intertitle.training.evaluation.answers import Answer
from intertitle.training.evaluation.metrics.metric_tokenizer import DEFAULT, choose_tokenizer
from intertitle.training.evaluation.metrics.predictions import Predictions, References
from intertitle.training.evaluation.metrics.scores import Scores


class Scorer:
    """Scores predictions against a fixed set of references, which are prepared once.

    Args:
        task: kind of the task, which decides the metrics.
        references: one or more reference texts for each of B examples; for labels of frames, the
            label of each frame.
        tokenizer: a name of `evaluation.metrics.metric_tokenizer.TOKENIZERS`.
        language: code of the references' language, such as `en`; None if it is unknown.
        background: label of frames that metrics of segments leave out, or None.

    Raises:
        UserError: there is no example, or an example has no reference or an empty one, or the
            tokenizer is not available.
    """

    def __init__(
        self,
        task: MetricTask,
        references: Sequence[Sequence[str]],
        tokenizer: str = DEFAULT,
        language: str | None = None,
        background: str | None = None,
    ) -> None:
        self._task = task
        self._references = References(references, tokenizer, language, background)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about missing or less meaningful scores, whatever the predictions are."""
        failures = tuple(METRICS.load_all()[1].values())
        counts_words = any(metric.counts_words for metric in metrics_of(self._task))
        words = self._references.warnings if counts_words else ()
        return failures + self._references.background_warnings + words

    def score(
        self,
        outputs: Sequence[str | Sequence[str]],
        metrics: Collection[str] | None = None,
        *,
        quick: bool = False,
        monitor: str = "",
    ) -> Scores:
        """Score B predictions, each against its own references. An empty text is allowed.

        If a metric can't measure them, the result holds the reason.

        Args:
            outputs: B texts, or the labels of the frames of B sequences.
            metrics: names of the metrics to compute; None for all of the task.
            quick: whether only those that are quick to compute are chosen.
            monitor: metric that is chosen with the quick ones.

        Raises:
            UserError: a metric is not one of the task, the numbers of predictions and of examples
                differ, or, for CIDEr, no reference has any word.
            JavaError: a Java program failed.
        """
        predictions = Predictions(self._task, self._references, outputs)
        measured: dict[str, Measured] = {}
        not_measured: dict[str, str] = {}
        warnings = [*METRICS.load_all()[1].values(), *self._references.background_warnings]
        chosen = [
            metric
            for metric in self._chosen(metrics)
            if not quick or metric.is_quick(self._task) or metric.name == monitor
        ]
        for metric in chosen:
            assert metric.measure is not None
            try:
                result = metric.measure(predictions)
            except NotMeasuredError as reason:
                not_measured[metric.name] = str(reason)
                continue
            if result is not None:
                measured[metric.name] = result
                warnings += result.warnings
        if any(metric.counts_words and metric.name in measured for metric in chosen):
            warnings += self._references.warnings
        return Scores.of(
            {name: result.signature for name, result in measured.items()},
            {name: result.statistics for name, result in measured.items()},
            not_measured,
            tuple(warnings),
        )

    def score_answers(self, answers: Sequence[Answer], *, quick: bool, monitor: str = "") -> Scores:
        """Score the answers of a model; see `score`."""
        per_frame = self._task == "label_per_frame"
        outputs = [answer.texts if per_frame else answer.texts[0] for answer in answers]
        return self.score(outputs, quick=quick, monitor=monitor)

    def _chosen(self, names: Collection[str] | None) -> list[Metric]:
        metrics = metrics_of(self._task)
        if names is None:
            return metrics
        known = [metric.name for metric in metrics]
        if unknown := set(names) - set(known):
            raise UserError(f"metrics: unknown {sorted(unknown)}; allowed are {known}")
        return [metric for metric in metrics if metric.name in names]


def make_scorer(dataset: Dataset, settings: EvaluationConfig) -> Scorer:
    """Return the scorer of a task, for all examples of a split.

    Args:
        dataset: split to score.
        settings: settings of the metrics.

    Raises:
        UserError: the tokenizer is not available.
    """
    references = [example.targets for example in dataset.examples]
    task, language = metric_task(dataset.task), dataset.target_language
    if dataset.task.output != "sentence":
        return Scorer(task, references, background=settings.background)
    return Scorer(task, references, choose_tokenizer(settings.tokenizer, language), language)
