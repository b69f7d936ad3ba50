"""Tables of results: each row has runs that differ only in their seed, with the same evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from intertitle.training.reports.evaluations import EvaluatedRun

NOT_MEASURED = "–"


@dataclass(frozen=True)
class ResultRow:
    """Row of a results table.

    Attributes:
        label: label of the row.
        published: published scores of a paper by metric.
        measured: evaluated runs, one per seed; empty if none has been evaluated.
    """

    label: str
    published: dict[str, float]
    measured: tuple[EvaluatedRun, ...]

    def values(self, metric: str) -> list[float]:
        """Return the score of each seed that has the metric."""
        scores = (evaluated.record.description["scores"] for evaluated in self.measured)
        return [float(run_scores[metric]) for run_scores in scores if metric in run_scores]

    def text(self, metric: str) -> str:
        """Return the mean over the seeds with the minimum and maximum, and the number of seeds if
        some lack the metric."""
        values = self.values(metric)
        if not values:
            return NOT_MEASURED
        mean = sum(values) / len(values)
        # Scores below 10, such as nats and CIDEr, need three digits.
        digits = 3 if mean < 10 else 2
        cell = f"{mean:.{digits}f}"
        if len(values) > 1:
            cell += f" ({min(values):.{digits}f}–{max(values):.{digits}f})"
        if len(values) < len(self.measured):
            cell += f" of {len(values)}"
        return cell


@dataclass(frozen=True)
class ResultsTable:
    """Table of results.

    Attributes:
        title: title of the table.
        metrics: metrics, one column each.
        rows: rows in display order.
    """

    title: str
    metrics: tuple[str, ...]
    rows: tuple[ResultRow, ...]

    def cells(self) -> list[list[str]]:
        """Return the header and the rows as text.

        A metric with published scores has an additional column for them.
        """
        published_metrics = [
            name for name in self.metrics if any(name in row.published for row in self.rows)
        ]
        head = ["", "seeds", *self.metrics, *(f"{name} published" for name in published_metrics)]
        return [
            head,
            *(
                [
                    row.label,
                    str(len(row.measured)),
                    *(row.text(name) for name in self.metrics),
                    *(
                        f"{row.published[n]:g}" if n in row.published else ""
                        for n in published_metrics
                    ),
                ]
                for row in self.rows
            ),
        ]

    def signatures(self) -> list[str]:
        """Return the signatures of the metrics, which describe how they were computed."""
        signatures = (
            evaluated.record.description["signatures"].get(name)
            for name in self.metrics
            for row in self.rows
            for evaluated in row.measured
        )
        return [signature for signature in dict.fromkeys(signatures) if signature is not None]

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        bars = [[cell.replace("|", r"\|") for cell in cells] for cells in self.cells()]
        head, *rows = map(" | ".join, bars)
        rule = " | ".join("---" for _ in self.cells()[0])
        return "".join(f"| {line} |\n" for line in (head, rule, *rows))
