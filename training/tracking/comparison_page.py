"""A comparison as one HTML page that needs nothing else: no network, no files beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.evaluation.resample import NUM_RESAMPLES
from training.evaluation.statistics import SMALLER_IS_BETTER
from training.tracking.compare import Comparison

_TEMPLATE = "comparison.html.jinja"


def render(comparison: Comparison, pictures: Mapping[str, bytes]) -> str:
    """The page, as text.

    Args:
        comparison: what it shows.
        pictures: a JPEG by the key of an item; items without one are shown without.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        comparison=comparison,
        pictures={key: base64.b64encode(jpeg).decode() for key, jpeg in pictures.items()},
        smaller_is_better=SMALLER_IS_BETTER,
        num_resamples=NUM_RESAMPLES,
    )
