"""HTML page of a results table, with the best, the worst and random predictions of each row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from intertitle.training.evaluation.metrics.sufficient_stats import combine, smaller_is_better
from intertitle.training.evaluation.record import EvaluationRecord
from intertitle.training.evaluation.search_errors import SCORE_TOLERANCE
from intertitle.training.reports.compare import EXAMPLE_METRICS
from intertitle.training.reports.results import ResultsTable
from intertitle.training.tracking.html import data_url, template

# Twenty examples per row, with as many of the best as of the worst.
NUM_BEST = NUM_WORST = 7
NUM_RANDOM = 6

BEST, WORST, RANDOM = "best", "worst", "random"


@dataclass(frozen=True)
class ShownExample:
    """Example of a row.

    Attributes:
        kind: "best", "worst" or "random".
        id, item_key, source, hypothesis, references: fields of `EvaluationRecord`.
        score: score by the metric that examples are ranked by.
        error_cause: cause of an error, "search error" or "model error", see
            `evaluation.search_errors`; "" if there is no error or the cause is not known.
    """

    kind: str
    id: str
    item_key: str | None
    source: str | None
    hypothesis: str
    references: tuple[str, ...]
    score: float
    error_cause: str


def choose(record: EvaluationRecord, seed: int = 0) -> tuple[str, list[ShownExample]]:
    """Choose twenty examples of an evaluation.

    Args:
        record: record of the evaluation.
        seed: random seed for the random examples.

    Returns:
        The metric that the examples are ranked by, and the best, the worst and random examples of
        the rest. There are no examples if there are no predictions or no metric to rank them by.
    """
    metric = next((name for name in EXAMPLE_METRICS if name in record.statistics), "")
    if not metric or not any(record.hypotheses):
        return metric, []
    scores = combine(metric, record.statistics[metric])
    order = np.argsort(scores if smaller_is_better(metric) else -scores, kind="stable")
    best, worst = order[:NUM_BEST], order[NUM_BEST:][::-1][:NUM_WORST]
    rest = order[NUM_BEST : len(order) - len(worst)]
    random_rows = np.random.default_rng(seed).permutation(rest)[:NUM_RANDOM]
    return metric, [
        ShownExample(
            kind,
            record.ids[n],
            record.item_keys[n],
            record.sources[n],
            record.hypotheses[n],
            record.references[n],
            float(scores[n]),
            _error_cause(record, n),
        )
        for kind, chosen in ((BEST, best), (WORST, worst), (RANDOM, random_rows))
        for n in chosen.tolist()
    ]


def _error_cause(record: EvaluationRecord, n: int) -> str:
    reference = record.reference_scores[n]
    if np.isnan(reference) or record.hypotheses[n] in record.references[n]:
        return ""
    missed = reference > record.scores[n] + SCORE_TOLERANCE
    return "search error" if missed else "model error"


def render(
    results: ResultsTable,
    pictures_of: Callable[[str, Collection[str]], Mapping[str, bytes]],
    written: Mapping[str, list[tuple[int, str]]],
) -> str:
    """Render the page as HTML. Each row shows the examples of its first seed.

    Args:
        results: table to show.
        pictures_of: function from a corpus and keys of items to JPEG images by key; items that it
            does not return are shown without an image.
        written: generated running text by the label of the row, as pairs of epoch and text.
    """
    sections = []
    for row in results.rows:
        if not row.measured:
            continue
        record = row.measured[0].record
        metric, examples = choose(record)
        keys = {example.item_key for example in examples if example.item_key is not None}
        pictures = pictures_of(str(record.description["data"]["corpus"]), keys) if keys else {}
        if examples or row.label in written:
            texts = written.get(row.label, [])
            sections.append((row.label, metric, examples, data_url(pictures), texts))
    return template("results.html.jinja").render(
        results=results, cells=results.cells(), sections=sections, kinds=(BEST, WORST, RANDOM)
    )
