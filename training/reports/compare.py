"""Comparison of runs: their scores on the same examples, and whether differences are significant.

All data is read from MLflow: each run's newest evaluation on a split, and its parameters.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from intertitle.pipeline.errors import UserError
from intertitle.training.config.recipe import SearchConfig
from intertitle.training.evaluation.record import (
    EVALUATIONS,
    EXAMPLES_FILE,
    EvaluationRecord,
    read_record,
)
from intertitle.training.evaluation.significance import Difference, differences
from intertitle.training.evaluation.sufficient_stats import SMALLER_IS_BETTER, combine, score_of
from intertitle.training.tracking.run import RunRef, download, params
from intertitle.training.tracking.store.client import mlflow_errors, open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Metrics to rank examples by: the first available one is used. METEOR matches synonyms, and is not
# 0 for lack of a matching 4-gram.
EXAMPLE_METRICS = ("meteor", "sacrebleu", "vqa_accuracy", "accuracy", "nats_per_token")
NUM_EXAMPLES = 40
_NUM_NAMED = 3


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


@dataclass(frozen=True)
class ChangedExample:
    """Example for which two runs have different scores.

    Attributes:
        id: id of the example.
        item_key: key of its item, None without one.
        source: source text, None for a task that reads no text.
        references: reference texts.
        hypotheses: predictions of the first and of the other run.
        scores: scores of the first and of the other run.
        change: difference of the scores, positive if the other run is better.
    """

    id: str
    item_key: str | None
    source: str | None
    references: tuple[str, ...]
    hypotheses: tuple[str, str]
    scores: tuple[float, float]
    change: float


@dataclass(frozen=True)
class BaselineComparison:
    """Comparison of a run with the first run.

    Attributes:
        run: name of the run.
        differences: differences of the scores by metric.
        better, worse: examples that changed most, largest change first; none for running text.
    """

    run: str
    differences: dict[str, Difference]
    better: tuple[ChangedExample, ...]
    worse: tuple[ChangedExample, ...]


@dataclass(frozen=True)
class Comparison:
    """Comparison of several runs.

    Attributes:
        split: split that the runs were evaluated on.
        corpus: corpus of the split.
        num_examples: number of examples B.
        runs: names of the runs, with a part of the id if two runs share a name.
        scores: scores of the runs by metric.
        signatures: signature of each metric, which describes how it was computed.
        settings: values of the runs for each parameter, data or search setting that differs; None
            for a run that does not have the setting.
        left_out: metrics that not all runs have, each with the reason.
        example_metric: metric that examples are ranked by.
        against_baseline: comparison of each run but the first with the first.
    """

    split: str
    corpus: str
    num_examples: int
    runs: tuple[str, ...]
    scores: dict[str, tuple[float, ...]]
    signatures: dict[str, str]
    settings: dict[str, tuple[str | None, ...]]
    left_out: dict[str, str]
    example_metric: str
    against_baseline: tuple[BaselineComparison, ...]


def read_newest(run: RunRef, split: str, corpus: str | None = None) -> EvaluatedRun:
    """Find the newest evaluation of a run that must have been evaluated, see `find_newest`.

    Raises:
        UserError: the run has not been evaluated, or the store does not answer.
    """
    evaluation = find_newest(run, split, corpus)
    if evaluation is None:
        suffix = " of that corpus" if corpus else ""
        raise UserError(
            f"run {run.name}: keeps no examples of {split!r}{suffix}; {_evaluate_hint(run, split)}"
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


def compare(runs: Sequence[EvaluatedRun], metrics: Collection[str] = ()) -> Comparison:
    """Compare two or more runs, each with the first.

    Args:
        runs: runs that were evaluated on the same split.
        metrics: metrics to compare; if empty, all metrics that all runs have.

    Raises:
        UserError: the runs were scored on different examples, with different references or with
            differently computed metrics, or not all runs have a metric.
    """
    first, *candidates = runs
    split = str(first.record.description["split"])
    for candidate in candidates:
        _check_examples(first, candidate, split)
    names = _metrics(runs, metrics)
    for candidate in candidates:
        _check_signatures(first, candidate, names, split)
    # Bring all examples into the order of the first run.
    positions = [{id: n for n, id in enumerate(run.record.ids)} for run in runs]
    orders = [np.array([position[id] for id in first.record.ids]) for position in positions]
    statistics = [
        {name: run.record.statistics[name][order] for name in names}
        for run, order in zip(runs, orders, strict=True)
    ]
    example_metric = next((name for name in EXAMPLE_METRICS if name in names), names[0])
    example_scores = [combine(example_metric, rows[example_metric]) for rows in statistics]
    labels = _labels(runs)
    against = [
        BaselineComparison(
            label,
            run_differences,
            *_changes(first, candidate, order, (example_scores[0], scores), example_metric),
        )
        for label, run_differences, candidate, order, scores in zip(
            labels[1:],
            differences(statistics),
            candidates,
            orders[1:],
            example_scores[1:],
            strict=True,
        )
    ]
    all_metrics = {
        name
        for run in runs
        for name in (*run.record.statistics, *run.record.description.get("not_measured", {}))
    }
    return Comparison(
        split=split,
        corpus=str(first.record.description["data"]["corpus"]),
        num_examples=len(first.record.ids),
        runs=labels,
        scores={name: tuple(score_of(name, rows[name]) for rows in statistics) for name in names},
        signatures={name: str(first.record.description["signatures"][name]) for name in names},
        settings=_differing([_settings(run) for run in runs]),
        left_out={}
        if metrics
        else {name: _why(runs, name) for name in sorted(all_metrics - set(names))},
        example_metric=example_metric,
        against_baseline=tuple(against),
    )


def _check_examples(first: EvaluatedRun, second: EvaluatedRun, split: str) -> None:
    first_record, second_record = first.record, second.record
    for run, ids, known_ids in (
        (second, second_record.ids, set(first_record.ids)),
        (first, first_record.ids, set(second_record.ids)),
    ):
        if unmatched := [id for id in ids if id not in known_ids]:
            raise UserError(
                f"run {second.run.name}: scored on other examples of {split!r} than "
                f"{first.run.name}: {_name_some(unmatched)} are in {run.run.name} alone; "
                f"{_evaluate_hint(second.run, split)}"
            )
    expected = dict(
        zip(
            first_record.ids,
            zip(first_record.sources, first_record.references, strict=True),
            strict=True,
        )
    )
    rows = zip(second_record.ids, second_record.sources, second_record.references, strict=True)
    changed = [id for id, *texts in rows if expected[id] != tuple(texts)]
    if changed:
        raise UserError(
            f"run {second.run.name}: scored with other references than {first.run.name}: "
            f"{_name_some(changed)} differ; {_evaluate_hint(second.run, split)}"
        )


def _metrics(runs: Sequence[EvaluatedRun], requested: Collection[str]) -> list[str]:
    """Return the requested metrics, which all runs must have, or all common metrics."""
    common = [n for n in runs[0].record.statistics if all(n in r.record.statistics for r in runs)]
    if unknown := [name for name in requested if name not in common]:
        reason = _why(runs, unknown[0])
        raise UserError(
            f"--metric {unknown[0]}: not in all of the runs ({reason}); they have {common}"
        )
    return [name for name in common if not requested or name in requested]


def _why(runs: Sequence[EvaluatedRun], metric: str) -> str:
    """Describe which runs lack a metric, with the reasons that their evaluations record."""
    lacking = [
        (label, run.record.description.get("not_measured", {}).get(metric))
        for label, run in zip(_labels(runs), runs, strict=True)
        if metric not in run.record.statistics
    ]
    return "; ".join(
        f"{label}: {reason}" if reason else f"{label} lacks it" for label, reason in lacking
    )


def _check_signatures(
    first: EvaluatedRun, second: EvaluatedRun, names: list[str], split: str
) -> None:
    base, actual = (
        first.record.description["signatures"],
        second.record.description["signatures"],
    )
    for name in names:
        if base[name] != actual[name]:
            raise UserError(
                f"run {second.run.name}: {name} was computed otherwise than in {first.run.name}: "
                f"{actual[name]!r} and {base[name]!r}; {_evaluate_hint(second.run, split, first)}; "
                "--metric compares the others alone"
            )


def _changes(
    first: EvaluatedRun,
    second: EvaluatedRun,
    order: Any,
    scores: tuple[Any, Any],
    metric: str,
) -> tuple[tuple[ChangedExample, ...], tuple[ChangedExample, ...]]:
    """Return the examples that improved and those that got worse, largest change first."""
    first_record, second_record = first.record, second.record
    if not any(first_record.hypotheses):
        return (), ()
    change = (scores[1] - scores[0]) * (-1 if metric in SMALLER_IS_BETTER else 1)

    def entry(n: int) -> ChangedExample:
        return ChangedExample(
            first_record.ids[n],
            first_record.item_keys[n],
            first_record.sources[n],
            first_record.references[n],
            (first_record.hypotheses[n], second_record.hypotheses[order[n]]),
            (float(scores[0][n]), float(scores[1][n])),
            float(change[n]),
        )

    best = [n for n in np.argsort(-change, kind="stable")[:NUM_EXAMPLES] if change[n] > 0]
    worst = [n for n in np.argsort(change, kind="stable")[:NUM_EXAMPLES] if change[n] < 0]
    return tuple(map(entry, best)), tuple(map(entry, worst))


def _settings(evaluated: EvaluatedRun) -> dict[str, str]:
    """Return the parameters of a run, and the data and search settings of its evaluation."""
    details = evaluated.record.description
    return evaluated.params | dict(
        _flat("measured", {"data": details["data"], "search": details["search"]})
    )


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _differing(settings: Sequence[dict[str, str]]) -> dict[str, tuple[str | None, ...]]:
    rows = {
        key: tuple(run_settings.get(key) for run_settings in settings)
        for run_settings in settings
        for key in run_settings
    }
    return {key: row for key, row in sorted(rows.items()) if len(set(row)) > 1}


def _labels(runs: Sequence[EvaluatedRun]) -> tuple[str, ...]:
    counts = Counter(entry.run.name for entry in runs)
    return tuple(
        entry.run.name
        if counts[entry.run.name] == 1
        else f"{entry.run.name} ({entry.run.run_id[:8]})"
        for entry in runs
    )


def _name_some(ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > _NUM_NAMED else ""
    return f"{len(ids)} ({', '.join(ids[:_NUM_NAMED])}{more})"


def _evaluate_hint(run: RunRef, split: str, like: EvaluatedRun | None = None) -> str:
    changed = like.record.description.get("changed", {}) if like else {}
    flags = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
    return f"`intertitle evaluate {run.name} --split {split}{flags}` measures it again"
