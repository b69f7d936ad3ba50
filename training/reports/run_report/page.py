"""Self-contained HTML page of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from intertitle.training.evaluation.metrics.sufficient_stats import smaller_is_better
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.significance import score_intervals
from intertitle.training.evaluation.slices import Slice
from intertitle.training.reports.evaluations import EvaluatedRun
from intertitle.training.reports.results_page import BEST, WORST, choose
from intertitle.training.reports.run_report.summary import length_slices
from intertitle.training.reports.run_report.word_errors import word_errors
from intertitle.training.tracking.html import data_url, template
from intertitle.training.tracking.store.run_list import MAIN_METRICS

# Number of metrics in a table of the scores of slices.
_NUM_BY_SLICE = 3


def render(
    evaluated: EvaluatedRun, pictures: Mapping[str, bytes], curves: bytes | None = None
) -> str:
    """Render the page as HTML.

    Args:
        evaluated: run with the evaluation to show.
        pictures: JPEG images by the key of the item; other items are shown without an image.
        curves: PNG image of the learning curves; None if the run has none.
    """
    record = evaluated.record
    metric, examples = choose(record)
    metrics = [name for name in MAIN_METRICS if name in record.statistics][:_NUM_BY_SLICE]
    plots = data_url({"curves": curves} if curves is not None else {})
    return template("run_report/report.html.jinja").render(
        run=evaluated.run,
        params=evaluated.params,
        description=record.description,
        num_examples=len(record.ids),
        scores=score_intervals(record.statistics),
        smaller_is_better=smaller_is_better,
        slices=_slices(record, metrics),
        metrics=metrics,
        word_errors=word_errors(record),
        metric=metric,
        examples=[example for example in examples if example.kind in (BEST, WORST)],
        kinds=(BEST, WORST),
        pictures=data_url(pictures),
        curves=plots.get("curves"),
    )


def _slices(record: EvaluationRecord, metrics: Sequence[str]) -> dict[str, list[Slice]]:
    """Return the slices by what they are divided by: by length, and those of the evaluation."""
    groups: dict[str, list[Slice]] = {"length": length_slices(record, metrics)}
    for part in record.slices:
        # The evaluation may have been divided by length, too.
        if part.by != "length":
            groups.setdefault(part.by, []).append(part)
    return {by: parts for by, parts in groups.items() if metrics and len(parts) > 1}


def shown_items(evaluated: EvaluatedRun) -> set[str]:
    """Return the keys of the items of the examples that the page shows."""
    _, examples = choose(evaluated.record)
    return {
        example.item_key
        for example in examples
        if example.kind in (BEST, WORST) and example.item_key is not None
    }
