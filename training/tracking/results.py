"""A table of results: rows of runs that differ in their seed, measured alike."""

from __future__ import annotations

from dataclasses import dataclass

from training.tracking.compare import Measured

NOT_MEASURED = "–"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: what stands in front.
        published: a paper's figures, by metric.
        measured: an entry a seed; none where nothing has been measured.
    """

    label: str
    published: dict[str, float]
    measured: tuple[Measured, ...]

    def values(self, metric: str) -> list[float]:
        """What each seed scored."""
        scores = (one.record.how["scores"] for one in self.measured)
        return [float(found[metric]) for found in scores if metric in found]

    def text(self, metric: str) -> str:
        """The mean over the seeds, with the least and the most of them, and over how many if some
        lack the metric."""
        values = self.values(metric)
        if not values:
            return NOT_MEASURED
        mean = sum(values) / len(values)
        # Of nats and of CIDEr the third digit tells.
        digits = 3 if mean < 10 else 2
        told = f"{mean:.{digits}f}"
        if len(values) > 1:
            told += f" ({min(values):.{digits}f}–{max(values):.{digits}f})"
        if len(values) < len(self.measured):
            told += f" of {len(values)}"
        return told


@dataclass(frozen=True)
class Results:
    """A table.

    Attributes:
        title: of it.
        metrics: its columns.
        rows: in their order.
    """

    title: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]

    def cells(self) -> list[list[str]]:
        """The columns' names, then the rows as text; published figures have columns of their own
        where there are any."""
        told = [name for name in self.metrics if any(name in row.published for row in self.rows)]
        head = ["", "seeds", *self.metrics, *(f"{name} published" for name in told)]
        return [
            head,
            *(
                [
                    row.label,
                    str(len(row.measured)),
                    *(row.text(name) for name in self.metrics),
                    *(f"{row.published[n]:g}" if n in row.published else "" for n in told),
                ]
                for row in self.rows
            ),
        ]

    def signatures(self) -> list[str]:
        """How the columns were computed."""
        found = (
            one.record.how["signatures"].get(name)
            for name in self.metrics
            for row in self.rows
            for one in row.measured
        )
        return [signature for signature in dict.fromkeys(found) if signature is not None]

    def to_markdown(self) -> str:
        """For a README."""
        bars = [[cell.replace("|", r"\|") for cell in cells] for cells in self.cells()]
        head, *rows = map(" | ".join, bars)
        rule = " | ".join("---" for _ in self.cells()[0])
        return "".join(f"| {line} |\n" for line in (head, rule, *rows))
