"""A comparison as one HTML page that needs nothing else: no network, no files beside it."""

from __future__ import annotations

from collections.abc import Mapping

from training.evaluation.resample import NUM_RESAMPLES
from training.evaluation.statistics import SMALLER_IS_BETTER
from training.tracking.compare import Comparison
from training.tracking.pages import inlined, template


def render(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """The page, as text.

    Args:
        comparison: what it shows.
        pictures: a JPEG by the key of an item; items without one are shown without.
    """
    return template("comparison.html.jinja").render(
        comparison=comparison,
        pictures=inlined(pictures),
        smaller_is_better=SMALLER_IS_BETTER,
        num_resamples=NUM_RESAMPLES,
    )
