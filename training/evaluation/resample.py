"""Whether a difference between two systems is more than the choice of the examples.

Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004: the paired
bootstrap. Other sets of examples are drawn from those there are, with replacement, and all systems
scored on each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.evaluation.statistics import SMALLER_IS_BETTER, combine, score_of

# With one more it can be cut into 40 equal parts: p is at most 0.05 just where 0 is outside of the
# 95 % interval.
NUM_RESAMPLES = 1999
_SEED = 2004
_MAX_WEIGHTS = 2**22  # held at once

Verdict = Literal["better", "worse", "can't be told apart"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Difference:
    """A system's score less another's, on the same examples.

    Attributes:
        value: on the examples as they are.
        low, high: the 95 % interval, by the percentiles of the resamples.
        p: two-sided, of there being no difference: twice the share of resamples on the rarer side
            of 0, at least 2 / (NUM_RESAMPLES + 1).
    """

    value: float
    low: float
    high: float
    p: float

    def verdict(self, metric: str) -> Verdict:
        """What it says of the system, in words."""
        if not (self.low > 0 or self.high < 0):
            return "can't be told apart"
        return "better" if (self.low > 0) != (metric in SMALLER_IS_BETTER) else "worse"


def differences(systems: Sequence[Mapping[str, _Floats]]) -> list[dict[str, Difference]]:
    """How each system but the first differs from the first, by each metric.

    Args:
        systems: the statistics [B, S] of the same B examples by metric, the same metrics for all.
    """
    names = list(systems[0])
    columns = [system[name] for system in systems for name in names]
    ends = np.cumsum([rows.shape[1] for rows in columns])[:-1]
    sums = iter(np.split(resampled_sums(np.hstack(columns)), ends, axis=1))
    resampled = [{name: combine(name, next(sums)) for name in names} for _ in systems]
    with np.errstate(invalid="ignore"):  # two perplexities may be infinite
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


def resampled_sums(statistics: _Floats) -> _Floats:
    """The sums [NUM_RESAMPLES, S] of B examples' statistics [B, S]; B alone decides the draws."""
    rng, num_examples = np.random.default_rng(_SEED), len(statistics)
    portion = max(1, _MAX_WEIGHTS // num_examples)
    sums = []
    for start in range(0, NUM_RESAMPLES, portion):
        rows = min(portion, NUM_RESAMPLES - start)
        drawn = rng.integers(num_examples, size=(rows, num_examples))
        drawn += num_examples * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * num_examples)
        sums.append(weights.reshape(rows, num_examples).astype(np.float64) @ statistics)
    return np.concatenate(sums)


def _difference(value: float, resampled: _Floats) -> Difference:
    ordered = np.sort(resampled)
    tail = (NUM_RESAMPLES + 1) // 40
    rarer = NUM_RESAMPLES - max(int((ordered > 0).sum()), int((ordered < 0).sum()))
    p = min(1.0, 2 * (rarer + 1) / (NUM_RESAMPLES + 1))
    return Difference(value, float(ordered[tail - 1]), float(ordered[-tail]), p)
