"""Declarations of metrics, and the metrics by their names.

A metric is a function of statistics that are summed over examples, so that the score of any subset,
and of each of a thousand resamples, is computed from their sums: comparisons, the gate and tables
have intervals for every metric.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from intertitle.pipeline.plugins import Registry

if TYPE_CHECKING:
    from intertitle.training.data.task import Task
    from intertitle.training.evaluation.metrics.predictions import Predictions

Floats = NDArray[np.float64]
MetricTask = Literal["caption", "translation", "label", "answer", "label_per_frame", "stream"]


def ratio(sums: Floats) -> Floats:
    """Return the means of a metric whose statistics are a weighted score and its weight, [R]."""
    means: Floats = sums[:, 0] / np.maximum(sums[:, 1], 1)
    return means


@dataclass(frozen=True, slots=True)
class Measured:
    """Statistics of predictions.

    Attributes:
        signature: exact definition of the metric; scores are comparable if theirs are equal.
        statistics: statistics of B examples, [B, S].
        warnings: warnings about scores that are less meaningful than they seem.
    """

    signature: str
    statistics: Floats
    warnings: tuple[str, ...] = ()


class NotMeasuredError(Exception):
    """Predictions that a metric can't measure, such as those in a language without its data.

    The message is the reason, which the evaluation states.
    """


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: name of the metric.
        tasks: tasks that it is measured for: "caption", "translation", "label" (of a text or an
            item), "answer" (to a question about an item), "label_per_frame"; "stream" is running
            text.
        measure: function from predictions to the statistics of each example; it returns None if it
            does not apply to their references, and raises `NotMeasuredError` if it can't measure
            them. None if the evaluation measures the model itself.
        combine: function from sums of the statistics over R sets of examples, [R, S], to their
            scores, [R].
        smaller_is_better: whether a smaller score is better.
        quick: whether it is measured after each epoch: for all of its tasks, for none, or for the
            named ones.
        monitor: whether a recipe may choose the best epoch by it; it is then measured after each
            epoch, and must be quick for one of its tasks.
        counts_words: whether it counts words, so that a tokenizer that does not split them is
            warned of.
        histogram: whether the scores of single examples are shown in a histogram.
    """

    name: str
    tasks: tuple[MetricTask, ...]
    measure: Callable[[Predictions], Measured | None] | None
    combine: Callable[[Floats], Floats] = ratio
    smaller_is_better: bool = False
    quick: bool | tuple[MetricTask, ...] = True
    monitor: bool = False
    counts_words: bool = False
    histogram: bool = False

    def __post_init__(self) -> None:
        if self.monitor and not self.quick:
            raise ValueError(f"{self.name}: monitor=True, allowed for metrics that are quick")

    def is_quick(self, task: MetricTask) -> bool:
        """Return whether it is measured after each epoch of a task."""
        return self.quick if isinstance(self.quick, bool) else task in self.quick


_HERE = "intertitle.training.evaluation.metrics"
METRICS = Registry(
    "intertitle.metrics",
    "metric",
    Metric,
    {
        "bleu_1": f"{_HERE}.caption_metrics:BLEU_1",
        "bleu_2": f"{_HERE}.caption_metrics:BLEU_2",
        "bleu_3": f"{_HERE}.caption_metrics:BLEU_3",
        "bleu_4": f"{_HERE}.caption_metrics:BLEU_4",
        "sacrebleu": f"{_HERE}.translation_metrics:SACREBLEU",
        "chrf": f"{_HERE}.translation_metrics:CHRF",
        "ter": f"{_HERE}.translation_metrics:TER",
        "meteor": f"{_HERE}.meteor_score:METEOR",
        "rouge_l": f"{_HERE}.caption_metrics:ROUGE_L",
        "cider": f"{_HERE}.caption_metrics:CIDER",
        "accuracy": f"{_HERE}.answer_metrics:ACCURACY",
        "vqa_accuracy": f"{_HERE}.answer_metrics:VQA_ACCURACY",
        "wups_0_9": f"{_HERE}.wups:WUPS_0_9",
        "wups_0_0": f"{_HERE}.wups:WUPS_0_0",
        "exact_match": f"{_HERE}.answer_metrics:EXACT_MATCH",
        "edit_score": f"{_HERE}.segment_metrics:EDIT_SCORE",
        "f1_10": f"{_HERE}.segment_metrics:F1_10",
        "f1_25": f"{_HERE}.segment_metrics:F1_25",
        "f1_50": f"{_HERE}.segment_metrics:F1_50",
        "nats_per_token": f"{_HERE}.model_metrics:NATS_PER_TOKEN",
        "perplexity": f"{_HERE}.model_metrics:PERPLEXITY",
        "search_errors": f"{_HERE}.model_metrics:SEARCH_ERRORS",
    },
)


def _known(name: str) -> str:
    if name not in METRICS.names():
        raise ValueError(f"allowed: {', '.join(METRICS.names())}")
    return name


# Name of a metric in a file.
MetricName = Annotated[str, AfterValidator(_known)]


def metric_task(task: Task) -> MetricTask:
    """Return the kind of task that decides which metrics are measured."""
    if task.output == "sentence":
        return "translation" if task.has_source else "caption"
    if task.output == "label" and task.has_source and task.visual_input != "nothing":
        return "answer"
    return task.output


def metrics_of(task: MetricTask) -> list[Metric]:
    """Return the metrics that measure the predictions of a task and can be imported."""
    return [metric for metric in METRICS.load_all()[0].values() if task in metric.tasks]
