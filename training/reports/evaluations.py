"""Evaluations of runs, read from MLflow: each run's newest one on a split, and its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intertitle.pipeline.errors import UserError
from intertitle.training.config.sections import SearchConfig
from intertitle.training.evaluation.record import (
    EVALUATIONS,
    EXAMPLES_FILE,
    EvaluationRecord,
    read_record,
)
from intertitle.training.tracking.store.client import RunRef, download, open_client, params
from intertitle.training.tracking.store.mlflow_errors import mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class EvaluatedRun:
    """Run with its newest evaluation on a split.

    Attributes:
        run: evaluated run.
        params: parameters of the run.
        record: record of the evaluation.
    """

    run: RunRef
    params: dict[str, str]
    record: EvaluationRecord


def read_newest(run: RunRef, split: str, corpus: str | None = None) -> EvaluatedRun:
    """Find the newest evaluation of a run that must have been evaluated, see `find_newest`.

    Raises:
        UserError: the run has not been evaluated, or the store does not answer.
    """
    evaluation = find_newest(run, split, corpus)
    if evaluation is None:
        suffix = " of that corpus" if corpus else ""
        raise UserError(
            f"run {run.name}: keeps no examples of {split!r}{suffix}; {evaluate_hint(run, split)}"
        )
    return evaluation


def find_newest(
    run: RunRef,
    split: str,
    corpus: str | None = None,
    search: SearchConfig | None = None,
    ensemble: Sequence[RunRef] = (),
    predictions: str | None = None,
) -> EvaluatedRun | None:
    """Find a run's newest evaluation on a split.

    Args:
        run: run to search.
        split: name of the split.
        corpus: fingerprint of the corpus of the split; None accepts any corpus.
        search: search settings of the evaluation; None accepts any settings.
        ensemble: other runs whose models formed an ensemble with the run; empty for the run alone.
        predictions: name of the evaluated predictions; None means those of the run itself.

    Returns:
        The evaluation; None if there is none.

    Raises:
        UserError: the store does not answer.
    """
    with mlflow_errors(run.tracking_uri):
        folders = list(_evaluations(open_client(run.tracking_uri), run.run_id, EVALUATIONS))
    split_folders = [path for path in folders if split in path.split("/")]
    for path in sorted(split_folders, key=lambda path: path.rpartition("/")[2], reverse=True):
        record = read_record(download(run, path))
        details = record.description
        if (
            details["split"] == split
            and details["ensemble"] == [run.run_id, *(member.run_id for member in ensemble)]
            and details.get("predictions") == predictions
            and corpus in (None, details["data"]["corpus_fingerprint"])
            and search in (None, SearchConfig.model_validate(details["search"]))
            # If search or predictions are given, all other settings must be those of the recipe.
            and (search is None is predictions or not details.get("changed"))
        ):
            return EvaluatedRun(run, params(run), record)
    return None


def _evaluations(client: MlflowClient, run_id: str, path: str) -> Iterator[str]:
    """Find the folders at or below a path that have the examples of an evaluation."""
    entries = client.list_artifacts(run_id, path)
    if f"{path}/{EXAMPLES_FILE}" in {entry.path for entry in entries}:
        yield path
    for entry in entries:
        if entry.is_dir:
            yield from _evaluations(client, run_id, entry.path)


def evaluate_hint(run: RunRef, split: str, like: EvaluatedRun | None = None) -> str:
    """Return the command that measures a run, with the settings that another evaluation changed."""
    changed = like.record.description.get("changed", {}) if like else {}
    flags = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
    return f"`intertitle evaluate {run.name} --split {split}{flags}` measures it again"
