"""Runs beside each other: what they scored on the same examples, and whether they differ at all.

Everything is read from MLflow: each run's newest evaluation on a split, and its parameters.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import UserError
from training.config import SearchConfig
from training.evaluation.record import EXAMPLES_FILE, Record, read_record
from training.evaluation.resample import Difference, differences
from training.evaluation.statistics import SMALLER_IS_BETTER, combine, score_of
from training.scoring import EVALUATIONS
from training.tracking.run import RunRef, download, params
from training.tracking.store import answering, open_client

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What an example is said to be better or worse by: the first that there is. METEOR knows synonyms,
# and is never 0 for want of four words in a row.
EXAMPLE_METRICS = ("meteor", "sacrebleu", "vqa_accuracy", "accuracy", "nats_per_token")
NUM_EXAMPLES = 40
_NUM_NAMED = 3


@dataclass(frozen=True)
class Measured:
    """A run's newest evaluation on a split.

    Attributes:
        run: whose.
        params: of the run.
        record: of the evaluation.
    """

    run: RunRef
    params: dict[str, str]
    record: Record


@dataclass(frozen=True)
class Changed:
    """An example that two runs tell differently; `change` is positive where the other is better."""

    id: str
    item_key: str | None
    source: str | None
    references: tuple[str, ...]
    hypotheses: tuple[str, str]
    scores: tuple[float, float]
    change: float


@dataclass(frozen=True)
class AgainstFirst:
    """A run against the first.

    Attributes:
        run: its name.
        differences: by metric.
        better, worse: the examples that changed most, most first; none for running text.
    """

    run: str
    differences: dict[str, Difference]
    better: tuple[Changed, ...]
    worse: tuple[Changed, ...]


@dataclass(frozen=True)
class Comparison:
    """Some runs beside each other.

    Attributes:
        split: they were measured on.
        corpus: that it is of.
        num_examples: B.
        runs: their names; with a part of the id where two share one.
        scores: of each run by metric.
        signatures: how each metric was computed.
        settings: what differs in parameters, data or search; None where a run has no such thing.
        left_out: metrics that not all of the runs have, each with why.
        example_metric: what examples are said to be better or worse by.
        against_first: of each run but the first.
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
    against_first: tuple[AgainstFirst, ...]


def read_newest(run: RunRef, split: str, corpus: str | None = None) -> Measured:
    """As `find_newest`, of a run that is supposed to have been measured.

    Raises:
        UserError: it has not been, or the store does not answer.
    """
    found = find_newest(run, split, corpus)
    if found is None:
        of = " of that corpus" if corpus else ""
        raise UserError(
            f"run {run.name}: keeps no examples of {split!r}{of}; {_how_to_measure(run, split)}"
        )
    return found


def find_newest(
    run: RunRef,
    split: str,
    corpus: str | None = None,
    search: SearchConfig | None = None,
    ensemble: Sequence[RunRef] = (),
    predictions: str | None = None,
) -> Measured | None:
    """A run's newest evaluation on a split.

    Args:
        run: whose.
        split: its name.
        corpus: the fingerprint of the corpus that the split is of; None is any.
        search: by which sentences were found; None is any.
        ensemble: the runs that told together with it; none is by itself.
        predictions: the name of those that were measured; None is what it told itself.

    Returns:
        None where there is no such evaluation.

    Raises:
        UserError: the store does not answer.
    """
    with answering(run.tracking_uri):
        kept = list(_evaluations(open_client(run.tracking_uri), run.run_id, EVALUATIONS))
    of_split = [path for path in kept if split in path.split("/")]
    for path in sorted(of_split, key=lambda path: path.rpartition("/")[2], reverse=True):
        record = read_record(download(run, path))
        how = record.how
        if (
            how["split"] == split
            and how["ensemble"] == [run.run_id, *(other.run_id for other in ensemble)]
            and how.get("predictions") == predictions
            and corpus in (None, how["data"]["corpus_fingerprint"])
            and search in (None, SearchConfig.model_validate(how["search"]))
            # Where something particular is asked for, other settings are the recipe's.
            and (search is None is predictions or not how.get("changed"))
        ):
            return Measured(run, params(run), record)
    return None


def _evaluations(client: MlflowClient, run_id: str, path: str) -> Iterator[str]:
    """The folders below one that hold an evaluation's examples."""
    entries = client.list_artifacts(run_id, path)
    if f"{path}/{EXAMPLES_FILE}" in {entry.path for entry in entries}:
        yield path
    for entry in entries:
        if entry.is_dir:
            yield from _evaluations(client, run_id, entry.path)


def compare(runs: Sequence[Measured], metrics: Collection[str] = ()) -> Comparison:
    """Set two runs or more beside each other, each against the first.

    Args:
        runs: measured on the same split.
        metrics: to compare; none means all that all runs have.

    Raises:
        UserError: they were scored on different examples, with different references or by
            different metrics, or there is no such metric.
    """
    first, *others = runs
    split = str(first.record.how["split"])
    for other in others:
        _check_examples(first, other, split)
    names = _metrics(runs, metrics)
    for other in others:
        _check_signatures(first, other, names, split)
    # All in the first one's order.
    places = [{id: n for n, id in enumerate(one.record.ids)} for one in runs]
    orders = [np.array([place[id] for id in first.record.ids]) for place in places]
    statistics = [
        {name: one.record.statistics[name][order] for name in names}
        for one, order in zip(runs, orders, strict=True)
    ]
    by = next((name for name in EXAMPLE_METRICS if name in names), names[0])
    each = [combine(by, rows[by]) for rows in statistics]
    labels = _labels(runs)
    against = [
        AgainstFirst(label, found, *_changes(first, other, order, (each[0], scores), by))
        for label, found, other, order, scores in zip(
            labels[1:], differences(statistics), others, orders[1:], each[1:], strict=True
        )
    ]
    seen = {
        name
        for one in runs
        for name in (*one.record.statistics, *one.record.how.get("not_measured", {}))
    }
    return Comparison(
        split=split,
        corpus=str(first.record.how["data"]["corpus"]),
        num_examples=len(first.record.ids),
        runs=labels,
        scores={name: tuple(score_of(name, rows[name]) for rows in statistics) for name in names},
        signatures={name: str(first.record.how["signatures"][name]) for name in names},
        settings=_differing([_settings(one) for one in runs]),
        left_out={} if metrics else {name: _why(runs, name) for name in sorted(seen - set(names))},
        example_metric=by,
        against_first=tuple(against),
    )


def _check_examples(first: Measured, other: Measured, split: str) -> None:
    mine, theirs = first.record, other.record
    for run, ids, known in ((other, theirs.ids, set(mine.ids)), (first, mine.ids, set(theirs.ids))):
        if only := [id for id in ids if id not in known]:
            raise UserError(
                f"run {other.run.name}: scored on other examples of {split!r} than "
                f"{first.run.name}: {_some(only)} are in {run.run.name} alone; "
                f"{_how_to_measure(other.run, split)}"
            )
    asked = dict(zip(mine.ids, zip(mine.sources, mine.references, strict=True), strict=True))
    rows = zip(theirs.ids, theirs.sources, theirs.references, strict=True)
    changed = [id for id, *told in rows if asked[id] != tuple(told)]
    if changed:
        raise UserError(
            f"run {other.run.name}: scored with other references than {first.run.name}: "
            f"{_some(changed)} differ; {_how_to_measure(other.run, split)}"
        )


def _metrics(runs: Sequence[Measured], wanted: Collection[str]) -> list[str]:
    """The metrics that all runs have, as far as they are wanted."""
    common = [n for n in runs[0].record.statistics if all(n in r.record.statistics for r in runs)]
    if unknown := [name for name in wanted if name not in common]:
        why = _why(runs, unknown[0])
        raise UserError(
            f"--metric {unknown[0]}: not in all of the runs ({why}); they have {common}"
        )
    return [name for name in common if not wanted or name in wanted]


def _why(runs: Sequence[Measured], metric: str) -> str:
    """Which runs lack a metric, with what their evaluations say of it."""
    lacking = [
        (label, one.record.how.get("not_measured", {}).get(metric))
        for label, one in zip(_labels(runs), runs, strict=True)
        if metric not in one.record.statistics
    ]
    return "; ".join(f"{label}: {why}" if why else f"{label} lacks it" for label, why in lacking)


def _check_signatures(first: Measured, other: Measured, names: list[str], split: str) -> None:
    mine, theirs = first.record.how["signatures"], other.record.how["signatures"]
    for name in names:
        if mine[name] != theirs[name]:
            raise UserError(
                f"run {other.run.name}: {name} was computed otherwise than in {first.run.name}: "
                f"{theirs[name]!r} and {mine[name]!r}; {_how_to_measure(other.run, split, first)}; "
                "--metric compares the others alone"
            )


def _changes(
    first: Measured,
    other: Measured,
    order: Any,
    scores: tuple[Any, Any],
    metric: str,
) -> tuple[tuple[Changed, ...], tuple[Changed, ...]]:
    """The examples that got better, and worse, the most changed first."""
    mine, theirs = first.record, other.record
    if not any(mine.hypotheses):
        return (), ()
    change = (scores[1] - scores[0]) * (-1 if metric in SMALLER_IS_BETTER else 1)

    def entry(n: int) -> Changed:
        return Changed(
            mine.ids[n],
            mine.item_keys[n],
            mine.sources[n],
            mine.references[n],
            (mine.hypotheses[n], theirs.hypotheses[order[n]]),
            (float(scores[0][n]), float(scores[1][n])),
            float(change[n]),
        )

    best = [n for n in np.argsort(-change, kind="stable")[:NUM_EXAMPLES] if change[n] > 0]
    worst = [n for n in np.argsort(change, kind="stable")[:NUM_EXAMPLES] if change[n] < 0]
    return tuple(map(entry, best)), tuple(map(entry, worst))


def _settings(one: Measured) -> dict[str, str]:
    """The parameters of a run, and what it was measured on and with."""
    how = one.record.how
    return one.params | dict(_flat("measured", {"data": how["data"], "search": how["search"]}))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _differing(settings: Sequence[dict[str, str]]) -> dict[str, tuple[str | None, ...]]:
    rows = {key: tuple(one.get(key) for one in settings) for one in settings for key in one}
    return {key: row for key, row in sorted(rows.items()) if len(set(row)) > 1}


def _labels(runs: Sequence[Measured]) -> tuple[str, ...]:
    named = Counter(one.run.name for one in runs)
    return tuple(
        one.run.name if named[one.run.name] == 1 else f"{one.run.name} ({one.run.run_id[:8]})"
        for one in runs
    )


def _some(ids: Sequence[str]) -> str:
    more = ", ..." if len(ids) > _NUM_NAMED else ""
    return f"{len(ids)} ({', '.join(ids[:_NUM_NAMED])}{more})"


def _how_to_measure(run: RunRef, split: str, like: Measured | None = None) -> str:
    changed = like.record.how.get("changed", {}) if like else {}
    flags = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
    return f"`intertitle evaluate {run.name} --split {split}{flags}` measures it anew"
