"""Self-contained HTML page of a comparison, which needs no network and no other files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from intertitle.training.evaluation.metrics.sufficient_stats import smaller_is_better
from intertitle.training.evaluation.significance import NUM_RESAMPLES, Difference
from intertitle.training.reports.compare import Comparison
from intertitle.training.tracking.html import data_url, template

# Share of the width of a bar that the larger end of its interval is away from 0, in the middle.
_REACH = 0.46


@dataclass(frozen=True, slots=True)
class IntervalBar:
    """Positions of an interval in a bar with 0 in the middle, as percentages of its width.

    Attributes:
        low, value, high: positions of the lower end, of the difference and of the upper end.
    """

    low: float
    value: float
    high: float


def interval_bar(difference: Difference) -> IntervalBar:
    """Return the bar of a difference; each has a scale of its own, as metrics have."""
    scale = max(abs(difference.low), abs(difference.high), abs(difference.value)) or 1.0
    low, value, high = (
        round(100 * (0.5 + _REACH * number / scale), 2)
        for number in (difference.low, difference.value, difference.high)
    )
    return IntervalBar(low, value, high)


def mark_words(text: str, reference: str) -> list[tuple[str, bool]]:
    """Split a text into runs of words, each with whether they differ from another text."""
    words, reference_words = text.split(), reference.split()
    matcher = difflib.SequenceMatcher(None, reference_words, words, autojunk=False)
    return [
        (" ".join(words[start:end]), kind != "equal")
        for kind, _, _, start, end in matcher.get_opcodes()
        if end > start
    ]


def render(
    comparison: Comparison,
    pictures: Mapping[str, bytes],
    links: Mapping[str, str] | None = None,
) -> str:
    """Render the page as HTML.

    Args:
        comparison: comparison to show.
        pictures: JPEG images by the key of the item; other items are shown without an image.
        links: URLs of the runs in MLflow by the names of the runs in the comparison.
    """
    return template("comparison.html.jinja").render(
        comparison=comparison,
        pictures=data_url(pictures),
        smaller_is_better=smaller_is_better,
        num_resamples=NUM_RESAMPLES,
        links=dict(links or {}),
        interval_bar=interval_bar,
        mark_words=mark_words,
    )
