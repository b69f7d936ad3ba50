"""Scores of one evaluation with intervals, and the description of a run in MLflow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.metrics.metric_tokenizer import DEFAULT, num_words
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.significance import score_intervals
from intertitle.training.evaluation.slices import Slice, length_ranges, slice_scores
from intertitle.training.tracking.html import as_markdown

# Number of examples in the description of a run.
NUM_EXAMPLES = 3
# Maximum number of characters of a text in the description: MLflow limits its length.
_TEXT_LENGTH = 300


def length_slices(record: EvaluationRecord, metrics: Sequence[str]) -> list[Slice]:
    """Score the examples by the length of their first reference; none without references."""
    if not any(record.references):
        return []
    tokenizer = record.description.get("tokenizer", DEFAULT)
    ranges = length_ranges([num_words(refs[0], tokenizer) for refs in record.references])
    return slice_scores("length", ranges, {name: record.statistics[name] for name in metrics})


def described_samples(evaluation: Evaluation) -> Sequence[Sample]:
    """Return the samples in the description of a run: `NUM_EXAMPLES` at most, spread evenly."""
    samples = [sample for sample in evaluation.samples if sample.hypothesis]
    return samples[:: max(1, -(-len(samples) // NUM_EXAMPLES))]


def describe_run(name: str, evaluation: Evaluation, pictures: Mapping[str, str]) -> str:
    """Describe the result of a training as Markdown, for the run's description in MLflow.

    Args:
        name: name of the run.
        evaluation: evaluation of its model.
        pictures: URLs of images by the key of the item.
    """
    search = f", {evaluation.search}" if evaluation.search else ""
    lines = [
        f"**{evaluation.num_examples:,} of {evaluation.split}{search}**, with 95 % intervals",
        "",
        "| metric | score | interval |",
        "| --- | ---: | --- |",
        *(
            f"| {as_markdown(name)} | {score.value:.2f} | {score.low:.2f} to {score.high:.2f} |"
            for name, score in score_intervals(evaluation.scores.statistics).items()
        ),
    ]
    if samples := described_samples(evaluation):
        lines += ["", "**Examples**", ""]
        for sample in samples:
            source = f"{_shown(sample.source)} → " if sample.source else ""
            reference = _shown(sample.references[0]) if sample.references else "–"
            picture = pictures.get(sample.item_key or "")
            image = f"![]({picture}) " if picture else ""
            lines.append(
                f"- {image}{source}**{_shown(sample.hypothesis)}** (reference: {reference})"
            )
    quoted = shlex.quote(name)
    commands = [
        f"intertitle predict {quoted} INPUT",
        f"intertitle compare OTHER-RUN {quoted}",
        f"intertitle report {quoted}",
    ]
    return "\n".join([*lines, "", "**Use**", "", "```", *commands, "```", ""])


def _shown(text: str) -> str:
    """Escape a text for Markdown, on one line of limited length."""
    line = " ".join(text.split())
    return as_markdown(line if len(line) <= _TEXT_LENGTH else f"{line[:_TEXT_LENGTH]} ...")
