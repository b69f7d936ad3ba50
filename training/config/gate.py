"""Requirements of the promotion gate, part of the configuration of a retraining."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from intertitle.training.config.metrics import MetricName
from intertitle.training.config.models import Section, Share

_Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Required = Annotated[float, Field(allow_inf_nan=False)]


class GateConfig(Section):
    """Requirements for a challenger, on examples that both models were evaluated on.

    Attributes:
        metric: metric that has to improve.
        margin: minimum improvement; the 95 % interval of the difference must lie above it.
        required: worst allowed score of each metric: a minimum, or a maximum for a metric that is
            better when smaller. It applies to a first model too, which has no champion to beat.
        guards: metrics that must not get worse by more than a tolerance, with the tolerance of
            each.
        max_empty: maximum share of predictions that may be empty.
        min_distinct: minimum share of distinct predictions; it is close to 0 for a model that
            predicts the same for every input.
        length_ratio: minimum and maximum ratio of the mean number of words per prediction to that
            of the references.
    """

    metric: MetricName = "meteor"
    margin: _Margin = 0.0
    required: dict[MetricName, _Required] = Field(default_factory=dict)
    guards: dict[MetricName, _Margin] = Field(default_factory=dict)
    max_empty: Share = 0.0
    min_distinct: Annotated[float, Field(ge=0, le=1)] = 0.05
    length_ratio: tuple[_Margin, _Margin] = (0.5, 2.0)
