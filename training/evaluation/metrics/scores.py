"""Scores of a set of answers, with the statistics that they are computed from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError
from intertitle.training.evaluation.metrics.sufficient_stats import score_of


@dataclass(frozen=True)
class Scores:
    """Scores of B answers.

    Attributes:
        values: score of the whole set, by metric.
        signatures: exact definition of each score; scores are comparable if these are equal.
        statistics: statistics that each value is computed from, [B, S]; see
            `evaluation.metrics.sufficient_stats`.
        not_measured: reason for each metric of the task that has no value.
        warnings: warnings about values that are less meaningful than they seem.
    """

    values: dict[str, float]
    signatures: dict[str, str]
    statistics: dict[str, NDArray[np.float64]] = field(compare=False)
    not_measured: dict[str, str] = field(default_factory=dict, compare=False)
    warnings: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of(
        cls,
        signatures: dict[str, str],
        statistics: dict[str, NDArray[np.float64]],
        not_measured: Mapping[str, str] | None = None,
        warnings: tuple[str, ...] = (),
    ) -> "Scores":
        """Compute the scores from statistics."""
        values = {name: score_of(name, rows) for name, rows in statistics.items()}
        return cls(values, signatures, statistics, dict(not_measured or {}), warnings)

    def merge(self, second: "Scores") -> "Scores":
        """Return these scores together with others of the same answers."""
        return Scores(
            self.values | second.values,
            self.signatures | second.signatures,
            self.statistics | second.statistics,
            self.not_measured | second.not_measured,
            self.warnings + second.warnings,
        )


def check_references(references: Sequence[Sequence[str]]) -> None:
    """Check that there is at least one reference text for each example.

    Raises:
        UserError: an example has none, or an empty one; the message names it.
    """
    if not references:
        raise UserError("references: 0 examples; at least 1 is needed")
    for index, group in enumerate(references):
        if isinstance(group, str):
            raise UserError(f"references: example {index} is one string; a list is needed")
        if not group:
            raise UserError(f"references: example {index} has none; at least 1 is needed")
        if not all(reference.strip() for reference in group):
            raise UserError(f"references: example {index} has an empty one; text is needed")


def check_count(hypotheses: Sequence[object], references: Sequence[object]) -> None:
    """Check that there is one hypothesis for each example.

    Raises:
        UserError: their numbers differ.
    """
    if len(hypotheses) != len(references):
        raise UserError(
            f"hypotheses: {len(hypotheses)} for {len(references)} examples; "
            "exactly one for each is needed"
        )


def weighted(
    scores: Iterable[float], weights: Iterable[float] | None = None
) -> NDArray[np.float64]:
    """Return the statistics of a metric that is a weighted mean.

    Args:
        scores: scores of B examples.
        weights: B weights, or None for weights of 1.

    Returns:
        Weighted scores and weights, [B, 2].
    """
    values = np.fromiter(scores, np.float64)
    factors = np.ones(len(values)) if weights is None else np.fromiter(weights, np.float64)
    return np.stack([values * factors, factors], 1)
