"""Scores of one evaluation with intervals, and the description of a run in MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.metrics.metric_tokenizer import DEFAULT, num_words
from intertitle.training.evaluation.metrics.sufficient_stats import score_of
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.significance import intervals
from intertitle.training.evaluation.slices import length_ranges
from intertitle.training.tracking.html import as_markdown

# Number of examples in the description of a run.
NUM_EXAMPLES = 3
# Maximum number of characters of a text in the description: MLflow limits its length.
_TEXT_LENGTH = 300


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score with its interval.

    Attributes:
        metric: name of the metric.
        value: score of all examples.
        low, high: ends of the 95 % interval of a bootstrap over the examples.
    """

    metric: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LengthRow:
    """Scores of the examples whose first reference has a length.

    Attributes:
        lengths: minimum and maximum number of words.
        num_examples: number of examples.
        scores: scores by metric.
    """

    lengths: tuple[int, int]
    num_examples: int
    scores: dict[str, float]


def score_rows(statistics: Mapping[str, NDArray[np.float64]]) -> list[ScoreRow]:
    """Return the score of each metric with its interval."""
    ends = intervals(statistics) if statistics else {}
    return [ScoreRow(name, score_of(name, rows), *ends[name]) for name, rows in statistics.items()]


def length_rows(record: EvaluationRecord) -> list[LengthRow]:
    """Return the scores by the length of the first reference; none without references."""
    if not any(record.references):
        return []
    tokenizer = record.description.get("tokenizer", DEFAULT)
    ranges = length_ranges([num_words(refs[0], tokenizer) for refs in record.references])
    rows = []
    for ends in sorted(set(ranges)):
        members = np.array([ends == own_ends for own_ends in ranges])
        scores = {name: score_of(name, rows[members]) for name, rows in record.statistics.items()}
        rows.append(LengthRow(ends, int(members.sum()), scores))
    return rows


def describe_run(name: str, evaluation: Evaluation) -> str:
    """Describe the result of a training as Markdown, for the run's description in MLflow.

    Args:
        name: name of the run.
        evaluation: evaluation of its model.
    """
    search = f", {evaluation.search}" if evaluation.search else ""
    lines = [
        f"**{evaluation.num_examples:,} of {evaluation.split}{search}**, with 95 % intervals",
        "",
        "| metric | score | interval |",
        "| --- | ---: | --- |",
        *(
            f"| {as_markdown(row.metric)} | {row.value:.2f} | {row.low:.2f} to {row.high:.2f} |"
            for row in score_rows(evaluation.scores.statistics)
        ),
    ]
    samples = [sample for sample in evaluation.samples if sample.hypothesis]
    if samples:
        lines += ["", "**Examples**", ""]
        for sample in _spread(samples):
            source = f"{_shown(sample.source)} → " if sample.source else ""
            reference = _shown(sample.references[0]) if sample.references else "–"
            lines.append(f"- {source}**{_shown(sample.hypothesis)}** (reference: {reference})")
    quoted = shlex.quote(name)
    commands = [
        f"intertitle predict {quoted} INPUT",
        f"intertitle compare OTHER-RUN {quoted}",
        f"intertitle report {quoted}",
    ]
    return "\n".join([*lines, "", "**Use**", "", "```", *commands, "```", ""])


def _spread(values: Sequence[Sample]) -> Sequence[Sample]:
    """Return at most `NUM_EXAMPLES` of the values, spread evenly."""
    return values[:: -(-len(values) // NUM_EXAMPLES)]


def _shown(text: str) -> str:
    """Escape a text for Markdown, on one line of limited length."""
    line = " ".join(text.split())
    return as_markdown(line if len(line) <= _TEXT_LENGTH else f"{line[:_TEXT_LENGTH]} ...")
