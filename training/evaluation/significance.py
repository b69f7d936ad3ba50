"""Statistical significance of the difference between two systems, by the paired bootstrap.

Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004. New sets of
examples are drawn from the original set with replacement, and all systems are scored on each of
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from intertitle.training.evaluation.metrics.sufficient_stats import (
    combine,
    score_of,
    smaller_is_better,
)

# NUM_RESAMPLES + 1 is a multiple of 40, so that p is at most 0.05 exactly if 0 is outside of the
# 95 % interval.
NUM_RESAMPLES = 1999
_SEED = 2004
_MAX_WEIGHTS = 4_000_000  # number of weights in memory at a time

Verdict = Literal["better", "worse", "no significant difference"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """Score of a system minus the score of another one, on the same examples.

    Attributes:
        value: difference on the original examples.
        low, high: ends of the 95 % interval, from the percentiles of the resamples.
        p: two-sided p-value of the hypothesis that there is no difference: twice the share of
            resamples on the rarer side of 0, at least 2 / (NUM_RESAMPLES + 1).
    """

    value: float
    low: float
    high: float
    p: float

    def verdict(self, metric: str) -> Verdict:
        """Return whether the system is better or worse than the other one, or neither.

        Args:
            metric: name of the metric.
        """
        if not (self.low > 0 or self.high < 0):
            return "no significant difference"
        return "better" if (self.low > 0) != smaller_is_better(metric) else "worse"


def differences(systems: Sequence[Mapping[str, _Floats]]) -> list[dict[str, Difference]]:
    """Compute how each system but the first differs from the first, by metric.

    Args:
        systems: statistics by metric of each system, [B, S]; the same B examples and the same
            metrics for all.
    """
    names = list(systems[0])
    columns = [system[name] for system in systems for name in names]
    ends = np.cumsum([rows.shape[1] for rows in columns])[:-1]
    sums = iter(np.split(resampled_sums(np.hstack(columns)), ends, axis=1))
    resampled = [{name: combine(name, next(sums)) for name in names} for _ in systems]
    with np.errstate(invalid="ignore"):  # the difference of two infinite perplexities
        return [
            {
                name: _difference(
                    score_of(name, system[name]) - score_of(name, systems[0][name]),
                    scores[name] - resampled[0][name],
                )
                for name in names
            }
            for system, scores in zip(systems[1:], resampled[1:], strict=True)
        ]


@dataclass(frozen=True, slots=True)
class ScoreInterval:
    """A score with its interval.

    Attributes:
        value: score of all examples.
        low, high: ends of the 95 % interval of a bootstrap over the examples.
    """

    value: float
    low: float
    high: float


def score_intervals(statistics: Mapping[str, _Floats]) -> dict[str, ScoreInterval]:
    """Compute the score of each metric of one system with its interval.

    Args:
        statistics: statistics by metric, [B, S]; the same B examples for all.
    """
    if not statistics:
        return {}
    names = list(statistics)
    ends = np.cumsum([statistics[name].shape[1] for name in names])[:-1]
    sums = np.split(resampled_sums(np.hstack([statistics[n] for n in names])), ends, axis=1)
    return {
        name: ScoreInterval(score_of(name, statistics[name]), *interval(combine(name, rows)))
        for name, rows in zip(names, sums, strict=True)
    }


def resampled_sums(statistics: _Floats) -> _Floats:
    """Sum the statistics of each resample.

    The resamples depend on the number of examples only.

    Args:
        statistics: statistics of B examples, [B, S].

    Returns:
        Sums, [NUM_RESAMPLES, S].
    """
    rng, num_examples = np.random.default_rng(_SEED), len(statistics)
    portion = max(1, _MAX_WEIGHTS // num_examples)
    sums = []
    for start in range(0, NUM_RESAMPLES, portion):
        rows = min(portion, NUM_RESAMPLES - start)
        indices = rng.integers(num_examples, size=(rows, num_examples))
        indices += num_examples * np.arange(rows)[:, None]
        weights = np.bincount(indices.ravel(), minlength=rows * num_examples)
        sums.append(weights.reshape(rows, num_examples).astype(np.float64) @ statistics)
    return np.concatenate(sums)


def interval(resampled: _Floats) -> tuple[float, float]:
    """Return the ends of the 95 % interval of `NUM_RESAMPLES` resampled scores."""
    ordered, tail = np.sort(resampled), (NUM_RESAMPLES + 1) // 40
    return float(ordered[tail - 1]), float(ordered[-tail])


def _difference(value: float, resampled: _Floats) -> Difference:
    rarer = NUM_RESAMPLES - max(int((resampled > 0).sum()), int((resampled < 0).sum()))
    p = min(1.0, 2 * (rarer + 1) / (NUM_RESAMPLES + 1))
    return Difference(value, *interval(resampled), p)
