"""Confusion of labels: which are predicted for which, and each label's precision and recall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import mode
from typing import Any

from intertitle.training.data.task import Task


@dataclass(frozen=True, slots=True)
class LabelScore:
    """Scores of a label, from 0 to 100.

    Attributes:
        label: label.
        precision: share of its predictions that are right; 0 if it is never predicted.
        recall: share of its examples that are predicted; 0 if there are none.
        f1: harmonic mean of both.
        support: number of examples, or frames, with the label.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Confusion:
    """Numbers of examples, or frames, by their label and by the predicted label.

    Attributes:
        counts: numbers by (label, predicted label), without zeros.
        labels: scores of each label, the most frequent first.
    """

    counts: dict[tuple[str, str], int]
    labels: tuple[LabelScore, ...]

    @property
    def macro_f1(self) -> float:
        """Mean of the labels' F1; those without an example do not count."""
        scores = [score.f1 for score in self.labels if score.support]
        return sum(scores) / len(scores)

    def to_json(self) -> dict[str, Any]:
        """Return plain values: the counts are triples of label, predicted label and number."""
        return {
            "macro_f1": self.macro_f1,
            "labels": [asdict(score) for score in self.labels],
            "counts": [[*pair, num] for pair, num in self.counts.items()],
        }


def count_confusion(
    references: Sequence[Sequence[str]], outputs: Sequence[Sequence[str]], task: Task
) -> Confusion | None:
    """Count the predictions of a label task; return None for other tasks.

    Args:
        references: labels of each example, of which the most common one is right (of equally common
            ones, the first); for labels of frames, the label of each frame.
        outputs: predicted label of each example, or of each of its frames.
        task: task of the model.
    """
    examples = zip(references, outputs, strict=True)
    if task.output == "label":
        pairs = Counter((mode(group), output[0]) for group, output in examples)
    elif task.output == "label_per_frame":
        pairs = Counter(
            pair for group, output in examples for pair in zip(group, output, strict=True)
        )
    else:
        return None
    support: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    for (label, prediction), num in pairs.items():
        support[label] += num
        predicted[prediction] += num
    labels = sorted({*support, *predicted}, key=lambda label: (-support[label], label))
    scores = tuple(
        _score(label, pairs[label, label], support[label], predicted[label]) for label in labels
    )
    return Confusion(dict(sorted(pairs.items())), scores)


def _score(label: str, right: int, support: int, predicted: int) -> LabelScore:
    precision, recall = 100 * right / max(predicted, 1), 100 * right / max(support, 1)
    # Equal to the harmonic mean, and 0 where both are.
    f1 = 200 * right / (support + predicted)
    return LabelScore(label, precision, recall, f1, support)
