"""Words and numbers of a report, as the terminal and the page show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from intertitle.pipeline.inspection.check.texts import Spread

# Descriptions of the kinds of evidence for a duplicate.
EVIDENCE = {
    "item": "one item in several splits",
    "identical": "identical files",
    "file": "segments of one file",
    "near": "similar pictures",
    "features": "similar features",
    "text": "identical source texts",
}


def spread(values: Spread | None) -> str:
    """Format a spread as minimum, median and maximum."""
    if values is None:
        return ""
    if values.min == values.max:
        return f"{values.min:,}"
    return f"{values.min:,} {values.median:,g} {values.max:,}"
