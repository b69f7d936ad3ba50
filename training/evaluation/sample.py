"""A model output with its references, as it is shown, logged and reported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """A model output for an example, with the example's references.

    Attributes:
        id: id of the example.
        item_key: key of the example's item, or None.
        source: source text, or None.
        hypothesis: output of the model; the labels of frames are joined by " | ".
        references: reference texts.
        score: score of the hypothesis, by the model's own probabilities.
        reference_score: score that the search would have given to the most probable reference; None
            if the search can't generate any of them, or is not a search for the most probable
            sentence.
        labels: predicted labels of the frames; empty for other tasks.
    """

    id: str
    item_key: str | None
    source: str | None
    hypothesis: str
    references: tuple[str, ...]
    score: float
    reference_score: float | None = None
    labels: tuple[str, ...] = ()
