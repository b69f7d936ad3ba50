"""Comparison of runs: their scores on the same examples, and whether differences are significant.

All data is from the runs' evaluations, see `reports.evaluations`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intertitle.training.evaluation.metrics.sufficient_stats import (
    combine,
    score_of,
    smaller_is_better,
)
from intertitle.training.evaluation.significance import Difference, differences
from intertitle.training.reports.comparable import (
    check_examples,
    check_signatures,
    common_metrics,
    run_labels,
    why_lacking,
)
from intertitle.training.reports.evaluations import EvaluatedRun

# Metrics to rank examples by: the first available one is used. METEOR matches synonyms, and is not
# 0 for lack of a matching 4-gram.
EXAMPLE_METRICS = ("meteor", "sacrebleu", "vqa_accuracy", "accuracy", "nats_per_token")
NUM_EXAMPLES = 40


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
        check_examples(first, candidate, split)
    names = common_metrics(runs, metrics)
    for candidate in candidates:
        check_signatures(first, candidate, names, split)
    # Bring all examples into the order of the first run.
    positions = [{id: n for n, id in enumerate(run.record.ids)} for run in runs]
    orders = [np.array([position[id] for id in first.record.ids]) for position in positions]
    statistics = [
        {name: run.record.statistics[name][order] for name in names}
        for run, order in zip(runs, orders, strict=True)
    ]
    example_metric = next((name for name in EXAMPLE_METRICS if name in names), names[0])
    example_scores = [combine(example_metric, rows[example_metric]) for rows in statistics]
    same_as = {}
    if not metrics and {"bleu_4", "sacrebleu"} <= set(names):
        same = all(np.array_equal(rows["bleu_4"], rows["sacrebleu"]) for rows in statistics)
        if same:
            names = [name for name in names if name != "sacrebleu"]
            statistics = [{name: rows[name] for name in names} for rows in statistics]
            same_as["sacrebleu"] = "equal to bleu_4, because its tokens are the same"
    labels = run_labels(runs)
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
        else same_as
        | {name: why_lacking(runs, name) for name in sorted(all_metrics - {*names, *same_as})},
        example_metric=example_metric,
        against_baseline=tuple(against),
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
    change = (scores[1] - scores[0]) * (-1 if smaller_is_better(metric) else 1)

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
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for n, inner in enumerate(value, start=1):
            yield from _flat(name if n == 1 else f"{name}_{n}", inner)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _differing(settings: Sequence[dict[str, str]]) -> dict[str, tuple[str | None, ...]]:
    rows = {
        key: tuple(run_settings.get(key) for run_settings in settings)
        for run_settings in settings
        for key in run_settings
    }
    return {key: row for key, row in sorted(rows.items()) if len(set(row)) > 1}
