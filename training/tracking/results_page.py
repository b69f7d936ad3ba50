"""A table as one HTML page, with what each row's model says at its best, its worst and between."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from training.evaluation.blame import ROUNDING
from training.evaluation.record import Record
from training.evaluation.statistics import SMALLER_IS_BETTER, combine
from training.tracking.compare import EXAMPLE_METRICS
from training.tracking.pages import inlined, template
from training.tracking.results import Results

# Twenty of each row, as many of the one end as of the other.
NUM_BEST = NUM_WORST = 7
NUM_RANDOM = 6

BEST, WORST, RANDOM = "best", "worst", "random"


@dataclass(frozen=True)
class Shown:
    """An example of a row.

    Attributes:
        kind: "best", "worst" or "random".
        id, item_key, source, hypothesis, references: see `Record`.
        score: by the metric that examples are ranked by.
        blame: whose fault it is, see `training.evaluation.blame`; "" where it is nobody's or not
            known.
    """

    kind: str
    id: str
    item_key: str | None
    source: str | None
    hypothesis: str
    references: tuple[str, ...]
    score: float
    blame: str


def choose(record: Record, seed: int = 0) -> tuple[str, list[Shown]]:
    """Twenty examples of an evaluation.

    Args:
        record: of it.
        seed: of those at random.

    Returns:
        The metric that they are ranked by, and the best, the worst and some at random of the rest;
        none where nothing was told, or of labels, which have no rank.
    """
    metric = next((name for name in EXAMPLE_METRICS if name in record.statistics), "")
    if not metric or not any(record.hypotheses):
        return metric, []
    scores = combine(metric, record.statistics[metric])
    order = np.argsort(scores if metric in SMALLER_IS_BETTER else -scores, kind="stable")
    best, worst = order[:NUM_BEST], order[NUM_BEST:][::-1][:NUM_WORST]
    rest = order[NUM_BEST : len(order) - len(worst)]
    some = np.random.default_rng(seed).permutation(rest)[:NUM_RANDOM]
    return metric, [
        Shown(
            kind,
            record.ids[n],
            record.item_keys[n],
            record.sources[n],
            record.hypotheses[n],
            record.references[n],
            float(scores[n]),
            _blame(record, n),
        )
        for kind, chosen in ((BEST, best), (WORST, worst), (RANDOM, some))
        for n in chosen.tolist()
    ]


def _blame(record: Record, n: int) -> str:
    reference = record.reference_scores[n]
    if np.isnan(reference) or record.hypotheses[n] in record.references[n]:
        return ""
    missed = reference > record.scores[n] + ROUNDING
    return "search error" if missed else "the model's own"


def render(
    results: Results,
    pictures_of: Callable[[str, Collection[str]], Mapping[str, bytes]],
    written: Mapping[str, list[tuple[int, str]]],
) -> str:
    """The page, as text. Each row shows its first seed's examples.

    Args:
        results: what it shows.
        pictures_of: JPEGs by the keys of a corpus' items; those it lacks are shown without.
        written: running text of a row's model by the row's label, at some epochs.
    """
    sections = []
    for row in results.rows:
        if not row.measured:
            continue
        record = row.measured[0].record
        metric, shown = choose(record)
        keys = {one.item_key for one in shown if one.item_key is not None}
        pictures = pictures_of(str(record.how["data"]["corpus"]), keys) if keys else {}
        if shown or row.label in written:
            texts = written.get(row.label, [])
            sections.append((row.label, metric, shown, inlined(pictures), texts))
    return template("results.html.jinja").render(
        results=results, cells=results.cells(), sections=sections, kinds=(BEST, WORST, RANDOM)
    )
