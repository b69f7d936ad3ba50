"""An answer of a model, as it is shown, logged and reported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer beside what it should be.

    Attributes:
        id: of the example.
        item_key: of the item it is about, or None.
        source: what was read, or None.
        hypothesis: the answer; the labels of frames are joined by " | ".
        references: what people say.
        score: of the answer.
        reference_score: what the search would have had of the likeliest reference; None where it
            could have found none, or did not look for the likeliest sentence.
    """

    id: str
    item_key: str | None
    source: str | None
    hypothesis: str
    references: tuple[str, ...]
    score: float
    reference_score: float | None = None
