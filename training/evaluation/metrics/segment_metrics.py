"""Metrics of the segments that labels of frames form (Lea et al. 2017).

"Temporal Convolutional Networks for Action Segmentation and Detection", as in the authors' code:
https://github.com/colincsl/TemporalConvolutionalNetworks, code/metrics.py as of 9938b39. A segment
is a longest run of frames with one label. Segments of the background, if the recipe names its
label, are left out. The score of a split is the mean over its videos.

| name | definition |
| --- | --- |
| `edit_score` | 1 - edits from the predicted to the true labels of segments / the larger number |
| `f1_10`, `f1_25`, `f1_50` | F1 of segments that overlap by at least 10, 25 or 50 % |
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from intertitle.training.config.metrics import Measured, Metric
from intertitle.training.evaluation.metrics.predictions import Predictions
from intertitle.training.evaluation.metrics.scores import weighted


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of frames with one label.

    Attributes:
        label: label.
        start: number of its first frame.
        end: number of the frame after its last.
    """

    label: str
    start: int
    end: int

    def overlap(self, segment: "Segment") -> float:
        """Return the intersection over union of the frames; 0 if the labels differ."""
        shared = min(self.end, segment.end) - max(self.start, segment.start)
        if self.label != segment.label or shared <= 0:
            return 0.0
        return shared / (max(self.end, segment.end) - min(self.start, segment.start))


def segments_of(labels: Iterable[str], background: str | None = None) -> list[Segment]:
    """Return the segments of a video's frames, without those of the background."""
    segments, start = [], 0
    for label, frames in groupby(labels):
        end = start + sum(1 for _ in frames)
        if label != background:
            segments.append(Segment(label, start, end))
        start = end
    return segments


def edit_score(predicted: Sequence[Segment], true: Sequence[Segment]) -> float:
    """Return the edit score, from 0 to 100; 100 if neither has a segment."""
    longer = max(len(predicted), len(true))
    return 100.0 if not longer else 100 * (1 - _count_edits(predicted, true) / longer)


def _count_edits(predicted: Sequence[Segment], true: Sequence[Segment]) -> int:
    """Return the smallest number of insertions, deletions and replacements of labels."""
    row = list(range(len(predicted) + 1))
    for number, right in enumerate(true, start=1):
        previous, row = row, [number]
        for index, segment in enumerate(predicted):
            replaced = previous[index] + (segment.label != right.label)
            row.append(min(previous[index + 1] + 1, row[-1] + 1, replaced))
    return row[-1]


def overlap_f1(predicted: Sequence[Segment], true: Sequence[Segment], threshold: float) -> float:
    """Return the F1 of segments, from 0 to 100; 100 if neither has a segment.

    A predicted segment is right if the true segment of its label that it overlaps most, the first
    of equals, is overlapped by at least `threshold` and belongs to no earlier predicted segment.

    Args:
        predicted: predicted segments, in order.
        true: true segments, in order.
        threshold: smallest intersection over union.
    """
    if not predicted and not true:
        return 100.0
    used: set[int] = set()
    for segment in predicted:
        overlaps = [segment.overlap(candidate) for candidate in true]
        best = max(overlaps, default=0.0)
        if best >= threshold:
            used.add(overlaps.index(best))
    return 200 * len(used) / (len(predicted) + len(true))


def _measure(
    predictions: Predictions,
    name: str,
    score: Callable[[Sequence[Segment], Sequence[Segment]], float],
) -> Measured:
    background = predictions.references.background
    pairs = zip(predictions.labels, predictions.references.texts, strict=True)
    scores = [score(*(segments_of(labels, background) for labels in pair)) for pair in pairs]
    ignored = "none" if background is None else background
    return Measured(f"{name}|unit:video|background:{ignored}", weighted(scores))


def _metric(name: str, score: Callable[[Sequence[Segment], Sequence[Segment]], float]) -> Metric:
    return Metric(name, ("label_per_frame",), partial(_measure, name=name, score=score))


def _f1_metric(percent: int) -> Metric:
    """Declare the F1 of segments that overlap by a percentage."""
    return _metric(f"f1_{percent}", partial(overlap_f1, threshold=percent / 100))


EDIT_SCORE = _metric("edit_score", edit_score)
F1_10, F1_25, F1_50 = map(_f1_metric, (10, 25, 50))
