"""Scores of parts of a split, with intervals: by length, kind, label, or a table's column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mode

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import Floats
from intertitle.training.evaluation.metrics.sufficient_stats import combine, score_of
from intertitle.training.evaluation.sample import Sample
from intertitle.training.evaluation.significance import interval, resampled_sums

SLICES = ("length", "source_length", "kind", "label")
"""Names of slices that need no table."""
# Number of ranges of a length, with about as many examples each.
_NUM_RANGES = 4
_NO_VALUE = "(none)"


@dataclass(frozen=True, slots=True)
class SliceScore:
    """Score of a metric on a slice.

    Attributes:
        value: score.
        low, high: ends of its 95 % interval, by the bootstrap.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a split.

    Attributes:
        by: what the split is divided by.
        value: value that the examples have in common.
        num_examples: number of examples.
        scores: score by metric.
    """

    by: str
    value: str
    num_examples: int
    scores: dict[str, SliceScore]


def slice_scores(
    samples: Sequence[Sample],
    statistics: Mapping[str, Floats],
    by: str,
    kinds: Mapping[str, str],
) -> list[Slice]:
    """Score the parts of a split.

    Args:
        samples: samples of B examples.
        statistics: statistics by metric, [B, S] each.
        by: "length" (words of the first reference), "source_length", "kind" (of the item), "label"
            (the most common reference), or "FILE:COLUMN": a CSV or Parquet table with a column
            "id", of the examples, or "key", of their items.
        kinds: kind of each item, by its key.

    Raises:
        UserError: there is no such slice or column, or the table lacks an example.
    """
    values = _values(samples, by, kinds)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for number, value in enumerate(values):
        members[value].append(number)
    slices = []
    for value in sorted(members, key=_natural):
        rows = members[value]
        scores = {name: _score(name, all_rows[rows]) for name, all_rows in statistics.items()}
        slices.append(Slice(by, value, len(rows), scores))
    return slices


def _score(metric: str, statistics: Floats) -> SliceScore:
    low, high = interval(combine(metric, resampled_sums(statistics)))
    return SliceScore(score_of(metric, statistics), low, high)


def _natural(value: str) -> tuple[float, str]:
    """Return a key that sorts ranges and numbers by their size, before texts."""
    number = value.partition("–")[0]
    return (float(number), value) if number.isdecimal() else (np.inf, value)


def _values(samples: Sequence[Sample], by: str, kinds: Mapping[str, str]) -> list[str]:
    of_sample: dict[str, Callable[[Sample], str]] = {
        "kind": lambda sample: kinds.get(sample.item_key or "", _NO_VALUE),
        "label": lambda sample: mode(sample.references),
    }
    if by in of_sample:
        return [of_sample[by](sample) for sample in samples]
    if by == "length":
        return _ranges([len(sample.references[0].split()) for sample in samples])
    if by == "source_length":
        return _ranges([len((sample.source or "").split()) for sample in samples])
    file, colon, column = by.rpartition(":")
    if not colon:
        raise UserError(f"--by {by!r}, allowed: {', '.join(SLICES)}, FILE:COLUMN")
    return _column(samples, Path(file), column)


def _ranges(lengths: Sequence[int]) -> list[str]:
    """Return the range that each length is in, such as "5–8"."""
    ends = np.unique(
        np.quantile(lengths, np.arange(1, _NUM_RANGES + 1) / _NUM_RANGES, method="higher")
    )
    numbers = np.searchsorted(ends, lengths)
    bounds = [
        (min(n for n, at in zip(lengths, numbers, strict=True) if at == index), int(end))
        for index, end in enumerate(ends)
    ]
    names = [str(end) if start == end else f"{start}–{end}" for start, end in bounds]
    return [names[number] for number in numbers]


def _column(samples: Sequence[Sample], file: Path, column: str) -> list[str]:
    if not file.is_file():
        raise UserError(f"--by: {file}: no such file")
    try:
        table = pq.read_table(file) if file.suffix == ".parquet" else pa_csv.read_csv(file)
    except pa.ArrowInvalid as error:
        raise UserError(f"--by: {file}: {str(error).splitlines()[0]}") from error
    key = next((name for name in ("id", "key") if name in table.column_names), None)
    if key is None or column not in table.column_names:
        raise UserError(
            f"--by: {file}: columns {', '.join(table.column_names)}, expected {column!r} and "
            "'id' or 'key'"
        )
    cells = zip(table[key].to_pylist(), table[column].to_pylist(), strict=True)
    by_key = {str(name): _NO_VALUE if value is None else str(value) for name, value in cells}
    names = [sample.id if key == "id" else (sample.item_key or "") for sample in samples]
    missing = [name for name in names if name not in by_key]
    if missing:
        raise UserError(f"--by: {file}: has no {key} {missing[0]!r}, one of {len(missing)} missing")
    return [by_key[name] for name in names]
