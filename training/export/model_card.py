"""Model card of a run (Mitchell et al. 2019): data, scores with intervals, and intended use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePath

from intertitle.training.config.sections import SearchConfig
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.significance import score_intervals
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.reports.evaluations import EvaluatedRun, find_newest
from intertitle.training.tracking.store.client import RunRef

# Splits whose newest evaluations the card has.
SPLITS = ("test", "val")
_INPUT = {"pooled": "one vector per frame", "grid": "a grid of vectors per frame"}


def read_evaluations(run: RunRef, trained: TrainedModel) -> list[EvaluatedRun]:
    """Return the newest evaluation of a run on each of SPLITS.

    One of the corpus and with the search of the training is preferred to others.
    """
    of_training = trained.data.corpus_fingerprint, trained.recipe.search
    evaluations = (
        find_newest(run, split, *of_training) or find_newest(run, split) for split in SPLITS
    )
    return [evaluation for evaluation in evaluations if evaluation is not None]


def model_card(
    trained: TrainedModel, run: RunRef, evaluations: list[EvaluatedRun], license: str
) -> str:
    """Write the model card of a run as Markdown, with metadata that hubs read.

    Args:
        trained: model of the run.
        run: run.
        evaluations: evaluations of the run, for the scores.
        license: licence of the weights.
    """
    recipe, task, data = trained.recipe, trained.task, trained.data
    lines = [
        "---",
        f"license: {json.dumps(license)}",
        "library_name: intertitle",
        f"tags: [{recipe.model.kind}]",
        "---",
        "",
        f"# {run.name}",
        "",
        f"A model of the recipe `{recipe.name}` of Intertitle, trained for {trained.step} steps.",
        "",
        "## Intended use",
        "",
        f"- Input: {_input(trained)}.",
        f"- Output: {task.output.replace('_', ' ')}.",
        "- The model repeats what its training data says, errors and prejudices included. It was "
        "measured on the data below alone; measure it on yours before relying on it.",
        "",
        "## Data",
        "",
        f"- Corpus `{PurePath(data.corpus).name}`, fingerprint `{data.corpus_fingerprint}`.",
    ]
    if data.target_language:
        lines.append(f"- Language of the targets: {data.target_language}.")
    for ref in data.features:
        features = json.loads(ref.fingerprint)
        lines += [
            f"- Features of `{features['backbone']}` ({_INPUT[task.visual_input]}), frames "
            f"`{features['sampling']}`, snapshot `{ref.snapshot}`.",
            f"- SHA-256 of that network's weights: `{features['weights_sha256']}`.",
        ]
    lines += ["", "## Scores", ""]
    if not evaluations:
        lines.append("The run has no evaluation of a test or validation split.")
    for evaluation in evaluations:
        lines += [*_scores(evaluation.record, task.output == "sentence"), ""]
    lines += ["## Licence of the weights", "", license, ""]
    return "\n".join(lines)


def _input(trained: TrainedModel) -> str:
    task = trained.task
    parts = []
    if task.visual_input != "nothing":
        parts.append(f"features of a video or photograph, {_INPUT[task.visual_input]}")
    if task.has_source:
        parts.append("a question" if parts else "a text")
    return " and ".join(parts) or "nothing, or the beginning of a text"


def _scores(record: EvaluationRecord, generated: bool) -> Iterator[str]:
    """Yield the lines on an evaluation; the search is named if it generated the predictions."""
    details = record.description
    search, changed = (
        SearchConfig.model_validate(details["search"]).describe(),
        details.get("changed", {}),
    )
    settings = "".join(f", {name} {value}" for name, value in changed.items())
    yield (
        f"Split `{details['split']}` of the corpus `{details['data']['corpus_fingerprint']}`, "
        f"{len(record.ids):,} examples{f', {search}' if generated else ''}{settings}:"
    )
    yield ""
    yield "| metric | score | 95 % interval |"
    yield "| --- | ---: | ---: |"
    for name, score in score_intervals(record.statistics).items():
        yield f"| {name} | {score.value:.4g} | {score.low:.4g} to {score.high:.4g} |"
