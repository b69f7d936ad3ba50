"""Self-contained HTML page of a comparison, which needs no network and no other files."""

from __future__ import annotations

from collections.abc import Mapping

from intertitle.training.evaluation.metrics.sufficient_stats import SMALLER_IS_BETTER
from intertitle.training.evaluation.significance import NUM_RESAMPLES
from intertitle.training.reports.compare import Comparison
from intertitle.training.tracking.html import data_url, template


def render(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """Render the page as HTML.

    Args:
        comparison: comparison to show.
        pictures: JPEG images by the key of the item; other items are shown without an image.
    """
    return template("comparison.html.jinja").render(
        comparison=comparison,
        pictures=data_url(pictures),
        smaller_is_better=SMALLER_IS_BETTER,
        num_resamples=NUM_RESAMPLES,
    )
