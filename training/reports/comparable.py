"""Checks that evaluations can be compared: the same examples, references and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from intertitle.pipeline.errors import UserError
from intertitle.training.reports.evaluations import EvaluatedRun, evaluate_hint

_NUM_NAMED = 3


def check_examples(first: EvaluatedRun, second: EvaluatedRun, split: str) -> None:
    """Check that two runs were scored on the same examples, with the same texts.

    Raises:
        UserError: the examples, their sources or their references differ.
    """
    first_record, second_record = first.record, second.record
    for run, ids, known_ids in (
        (second, second_record.ids, set(first_record.ids)),
        (first, first_record.ids, set(second_record.ids)),
    ):
        if unmatched := [id for id in ids if id not in known_ids]:
            raise UserError(
                f"run {second.run.name}: scored on other examples of {split!r} than "
                f"{first.run.name}: {_name_some(unmatched)} are in {run.run.name} alone; "
                f"{evaluate_hint(second.run, split)}"
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
            f"{_name_some(changed)} differ; {evaluate_hint(second.run, split)}"
        )


def common_metrics(runs: Sequence[EvaluatedRun], requested: Collection[str]) -> list[str]:
    """Return the requested metrics, or all metrics that all runs have.

    Raises:
        UserError: not all runs have a requested metric.
    """
    common = [n for n in runs[0].record.statistics if all(n in r.record.statistics for r in runs)]
    if unknown := [name for name in requested if name not in common]:
        reason = why_lacking(runs, unknown[0])
        raise UserError(
            f"--metric {unknown[0]}: not in all of the runs ({reason}); they have {common}"
        )
    return [name for name in common if not requested or name in requested]


def why_lacking(runs: Sequence[EvaluatedRun], metric: str) -> str:
    """Describe which runs lack a metric, with the reasons that their evaluations record."""
    lacking = [
        (label, run.record.description.get("not_measured", {}).get(metric))
        for label, run in zip(run_labels(runs), runs, strict=True)
        if metric not in run.record.statistics
    ]
    return "; ".join(
        f"{label}: {reason}" if reason else f"{label} lacks it" for label, reason in lacking
    )


def check_signatures(
    first: EvaluatedRun, second: EvaluatedRun, names: list[str], split: str
) -> None:
    """Check that metrics of two runs were computed in the same way.

    Raises:
        UserError: the signatures of a metric differ.
    """
    base, actual = (
        first.record.description["signatures"],
        second.record.description["signatures"],
    )
    for name in names:
        if base[name] != actual[name]:
            raise UserError(
                f"run {second.run.name}: {name} was computed otherwise than in {first.run.name}: "
                f"{actual[name]!r} and {base[name]!r}; {evaluate_hint(second.run, split, first)}; "
                "--metric compares the others alone"
            )


def run_labels(runs: Sequence[EvaluatedRun]) -> tuple[str, ...]:
    """Return the names of the runs, with a part of the id if two runs share a name."""
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
