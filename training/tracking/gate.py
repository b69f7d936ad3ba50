"""Whether a challenger may take the champion's place: it has to be better for certain, and sane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from training.evaluation.record import Record
from training.evaluation.resample import Difference
from training.evaluation.statistics import SMALLER_IS_BETTER
from training.evaluation.tokens import DEFAULT, num_words
from training.models.config import Section, Share
from training.tracking.compare import Measured, compare

_Margin = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class GateConfig(Section):
    """What a challenger has to show, on examples that both were measured on.

    Attributes:
        metric: by which it has to be better.
        margin: by more than this, for certain: the 95 % interval of the difference lies above it.
        guards: metrics that may not fall, or by less than the tolerance given: a figure each.
        max_empty: share of its answers that may be empty.
        min_distinct: share of its answers that have to differ from all before; a model that says
            the same of everything has next to none.
        length_ratio: how many words it may say for one of the references', least and most.
    """

    metric: str = "meteor"
    margin: _Margin = 0.0
    guards: dict[str, _Margin] = Field(default_factory=dict)
    max_empty: Share = 0.0
    min_distinct: Annotated[float, Field(ge=0, le=1)] = 0.05
    length_ratio: tuple[_Margin, _Margin] = (0.5, 2.0)


@dataclass(frozen=True)
class Decision:
    """What the gate says.

    Attributes:
        promote: whether the challenger is to be the champion.
        reasons: a line each, of all that was looked at; those that speak against it begin "no:".
    """

    promote: bool
    reasons: tuple[str, ...]

    def to_markdown(self) -> str:
        """For MLflow's page."""
        heading = "Promoted" if self.promote else "Refused"
        return "\n".join([f"## {heading}", "", *(f"- {reason}" for reason in self.reasons), ""])


def decide(challenger: Measured, champion: Measured | None, gate: GateConfig) -> Decision:
    """Let a challenger through, or not.

    Args:
        challenger: measured on the frozen examples.
        champion: on the same; None where there is none yet: then only the answers are looked at.
        gate: what has to be.

    Raises:
        UserError: they were measured on different examples or otherwise, or lack a metric.
    """
    told = list(_looks_sane(challenger.record, gate))
    if champion is None:
        told.append((True, "there is no champion yet"))
    else:
        comparison = compare([champion, challenger], {gate.metric, *gate.guards})
        (against,) = comparison.against_first
        for metric, found in against.differences.items():
            scores = comparison.scores[metric]
            told.append(_judge(metric, (scores[0], scores[1]), found, gate))
    reasons = tuple(f"{'yes' if good else 'no'}: {reason}" for good, reason in told)
    return Decision(all(good for good, _ in told), reasons)


def _judge(
    metric: str, scores: tuple[float, float], found: Difference, gate: GateConfig
) -> tuple[bool, str]:
    sign = -1 if metric in SMALLER_IS_BETTER else 1
    # How much better, whichever way the metric points.
    gain, least = sign * found.value, min(sign * found.low, sign * found.high)
    most = max(sign * found.low, sign * found.high)
    line = (
        f"{metric} {scores[1]:.4g}, the champion's {scores[0]:.4g}: {_signed(gain)} better "
        f"(95 % interval {_signed(least)} to {_signed(most)})"
    )
    if metric == gate.metric:
        return least > gate.margin, f"{line}; has to be above {gate.margin:g} for certain"
    allowed = gate.guards[metric]
    return gain >= -allowed, f"{line}; may fall by {allowed:g}"


def _looks_sane(record: Record, gate: GateConfig) -> list[tuple[bool, str]]:
    """Whether answers are there, differ, and are as long as people's."""
    answers = record.hypotheses
    if not any(record.references):
        return []  # running text is not answered
    num = len(answers)
    empty = sum(not answer.strip() for answer in answers)
    # Labels are few, and people's as few.
    distinct, wanted = len(set(answers)), len({refs[0] for refs in record.references})
    needed = int(np.ceil(gate.min_distinct * min(num, wanted)))
    tokenizer = record.how.get("tokenizer", DEFAULT)
    words = float(np.mean([num_words(answer, tokenizer) for answer in answers]))
    usual = float(np.mean([num_words(r, tokenizer) for refs in record.references for r in refs]))
    low, high = (share * usual for share in gate.length_ratio)
    return [
        (empty <= gate.max_empty * num, f"{empty} of {num} answers are empty"),
        (
            distinct >= max(needed, min(2, wanted)),
            f"{distinct} different answers, people have {wanted}",
        ),
        (
            low <= words <= high,
            f"{words:.1f} words an answer, people {usual:.1f} (allowed {low:.1f} to {high:.1f})",
        ),
    ]


def _signed(value: float) -> str:
    return f"{value:+.3g}"
