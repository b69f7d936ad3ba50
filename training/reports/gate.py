"""Promotion gate: a challenger must be significantly better than the champion, and sane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from intertitle.training.config.gate import GateConfig
from intertitle.training.evaluation.metrics.metric_tokenizer import DEFAULT, num_words
from intertitle.training.evaluation.metrics.sufficient_stats import score_of, smaller_is_better
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.significance import Difference
from intertitle.training.reports.comparable import common_metrics
from intertitle.training.reports.compare import compare
from intertitle.training.reports.evaluations import EvaluatedRun


@dataclass(frozen=True)
class GateDecision:
    """Decision of the gate.

    Attributes:
        promote: whether the challenger becomes the champion.
        reasons: result of each check, one line each; a failed check begins with "no:".
    """

    promote: bool
    reasons: tuple[str, ...]

    def to_markdown(self) -> str:
        """Return the decision as Markdown for MLflow's page."""
        heading = "Promoted" if self.promote else "Refused"
        return "\n".join([f"## {heading}", "", *(f"- {reason}" for reason in self.reasons), ""])


def decide(
    challenger: EvaluatedRun, champion: EvaluatedRun | None, gate: GateConfig
) -> GateDecision:
    """Decide whether a challenger becomes the champion.

    Args:
        challenger: challenger, evaluated on the frozen examples.
        champion: champion, evaluated on the same examples; None if there is no champion, in which
            case only its own scores and the sanity of the predictions are checked.
        gate: requirements.

    Raises:
        UserError: the runs were evaluated on different examples or with differently computed
            metrics, or lack a metric.
    """
    checks = [*_check_sanity(challenger.record, gate), *_check_required(challenger, gate)]
    if champion is None:
        checks.append((True, "there is no champion yet"))
    else:
        comparison = compare([champion, challenger], {gate.metric, *gate.guards})
        (versus,) = comparison.against_baseline
        for metric, difference in versus.differences.items():
            scores = comparison.scores[metric]
            checks.append(_judge(metric, (scores[0], scores[1]), difference, gate))
    reasons = tuple(f"{'yes' if passed else 'no'}: {reason}" for passed, reason in checks)
    return GateDecision(all(passed for passed, _ in checks), reasons)


def _judge(
    metric: str, scores: tuple[float, float], difference: Difference, gate: GateConfig
) -> tuple[bool, str]:
    sign = -1 if smaller_is_better(metric) else 1
    # The gain is positive for an improvement, whether the metric is better when larger or smaller.
    gain, lower = sign * difference.value, min(sign * difference.low, sign * difference.high)
    upper = max(sign * difference.low, sign * difference.high)
    line = (
        f"{metric} {scores[1]:.4g}, champion {scores[0]:.4g}: improvement {_signed(gain)} "
        f"(95 % interval {_signed(lower)} to {_signed(upper)})"
    )
    if metric == gate.metric:
        return lower > gate.margin, f"{line}; the interval must lie above {gate.margin:g}"
    allowed = gate.guards[metric]
    return gain >= -allowed, f"{line}; allowed drop {allowed:g}"


def _check_required(challenger: EvaluatedRun, gate: GateConfig) -> list[tuple[bool, str]]:
    """Check the scores that are required of every model.

    Raises:
        UserError: a metric was not measured.
    """
    checks = []
    for metric in common_metrics([challenger], gate.required) if gate.required else ():
        required = gate.required[metric]
        score = score_of(metric, challenger.record.statistics[metric])
        is_maximum = smaller_is_better(metric)
        passed = score <= required if is_maximum else score >= required
        bound = "at most" if is_maximum else "at least"
        checks.append((passed, f"{metric} {score:.4g}, required {bound} {required:g}"))
    return checks


def _check_sanity(record: EvaluationRecord, gate: GateConfig) -> list[tuple[bool, str]]:
    """Check that predictions are not empty, are distinct, and are as long as the references."""
    answers = record.hypotheses
    if not any(record.references):
        return []  # running text has no predictions to check
    num = len(answers)
    empty = sum(not answer.strip() for answer in answers)
    # There may be few different labels: require no more than the references have.
    distinct, num_reference = len(set(answers)), len({refs[0] for refs in record.references})
    needed = int(np.ceil(gate.min_distinct * num_reference))
    tokenizer = record.description.get("tokenizer", DEFAULT)
    words = float(np.mean([num_words(answer, tokenizer) for answer in answers]))
    typical = float(np.mean([num_words(r, tokenizer) for refs in record.references for r in refs]))
    low, high = (share * typical for share in gate.length_ratio)
    return [
        (empty <= gate.max_empty * num, f"{empty} of {num} predictions are empty"),
        (
            distinct >= max(needed, min(2, num_reference)),
            f"{distinct} distinct predictions, {num_reference} distinct references",
        ),
        (
            low <= words <= high,
            f"{words:.1f} words per prediction, {typical:.1f} per reference "
            f"(allowed {low:.1f} to {high:.1f})",
        ),
    ]


def _signed(value: float) -> str:
    return f"{value:+.3g}"
