"""Scores of parts of a split, with intervals: by length, kind, label, or a table's column."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mode
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from intertitle.pipeline.errors import UserError
from intertitle.training.config.metrics import Floats
from intertitle.training.data.task import Task
from intertitle.training.evaluation.metrics.metric_tokenizer import DEFAULT, num_words
from intertitle.training.evaluation.significance import ScoreInterval, score_intervals

if TYPE_CHECKING:
    from intertitle.pipeline.corpus import Example

SLICES = ("length", "source_length", "kind", "label")
"""Names of slices that need no table."""
# Maximum number of parts that a split is divided into.
MAX_SLICES = 100
# Number of ranges of a length, with about as many examples each.
_NUM_RANGES = 4
_NO_VALUE = "(none)"


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
    scores: dict[str, ScoreInterval]


def check_slices(names: Iterable[str]) -> None:
    """Check the names of slices, and the files and columns that they name.

    Raises:
        UserError: there is no such slice, file or column.
    """
    for by in names:
        if by not in SLICES:
            _read_column(by)


def slice_values(
    examples: Sequence[Example],
    by: str,
    task: Task,
    kinds: Mapping[str, str],
    tokenizer: str = DEFAULT,
) -> list[str]:
    """Return the value by which each example belongs to a slice.

    Args:
        examples: B examples.
        by: "length" (words of the first reference), "source_length" (words between blanks), "kind"
            (of the item), "label" (the most common reference), or "FILE:COLUMN": a CSV or Parquet
            table with a column "id", of the examples, or "key", of their items.
        task: task of the examples.
        kinds: kind of each item, by its key.
        tokenizer: name of the metric tokenizer that counts the words of references.

    Raises:
        UserError: there is no such slice or column, it does not apply to the task, the table lacks
            an example or has two values of one, or there are too many slices.
    """
    if by == "source_length" and not task.has_source:
        raise UserError(f"--by {by}: the examples have no source")
    if by == "label" and task.output == "sentence":
        raise UserError(f"--by {by}: the references are sentences, not labels")
    if by == "kind":
        values = [kinds.get(example.item_key or "", _NO_VALUE) for example in examples]
    elif by == "label":
        values = [mode(example.targets) for example in examples]
    elif by == "length":
        values = length_ranges([num_words(e.targets[0], tokenizer) for e in examples])
    elif by == "source_length":
        values = length_ranges([num_words(e.source or "", DEFAULT) for e in examples])
    else:
        values = _column_values(examples, by)
    if (number := len({*values})) > MAX_SLICES:
        raise UserError(f"--by {by}: {number:,} different values, allowed: {MAX_SLICES}")
    return values


def slice_scores(by: str, values: Sequence[str], statistics: Mapping[str, Floats]) -> list[Slice]:
    """Score the parts of a split.

    Args:
        by: what the split is divided by.
        values: result of `slice_values` for B examples.
        statistics: statistics by metric, [B, S] each.
    """
    members: defaultdict[str, list[int]] = defaultdict(list)
    for number, value in enumerate(values):
        members[value].append(number)
    slices = []
    for value in sorted(members, key=_natural):
        rows = {name: all_rows[members[value]] for name, all_rows in statistics.items()}
        slices.append(Slice(by, value, len(members[value]), score_intervals(rows)))
    return slices


def _natural(value: str) -> tuple[float, str]:
    """Return a key that sorts ranges and numbers by their size, before texts."""
    number = value.partition("–")[0]
    return (float(number), value) if number.isdecimal() else (np.inf, value)


def length_ranges(lengths: Sequence[int]) -> list[str]:
    """Divide lengths into ranges of about as many examples each.

    Returns:
        The range that each length is in, such as "5–8".
    """
    ends = np.unique(
        np.quantile(lengths, np.arange(1, _NUM_RANGES + 1) / _NUM_RANGES, method="higher")
    )
    numbers = np.searchsorted(ends, lengths)
    starts = [
        min(n for n, at in zip(lengths, numbers, strict=True) if at == index)
        for index in range(len(ends))
    ]
    names = [
        str(start) if start == end else f"{start}–{end:.0f}"
        for start, end in zip(starts, ends, strict=True)
    ]
    return [names[number] for number in numbers]


def _read_column(by: str) -> tuple[str, dict[str, str]]:
    """Read the column of a table that `FILE:COLUMN` names.

    Returns:
        The name of the column of identifiers, "id" or "key", and the values by identifier.
    """
    name, colon, column = by.rpartition(":")
    if not colon:
        raise UserError(f"--by {by!r}, allowed: {', '.join(SLICES)}, FILE:COLUMN")
    file = Path(name)
    if not file.is_file():
        raise UserError(f"--by: {file}: no such file")
    # Identifiers may look like numbers, such as 0012.
    as_text = pa_csv.ConvertOptions(column_types=dict.fromkeys(("id", "key", column), pa.string()))
    try:
        table = (
            pq.read_table(file)
            if file.suffix == ".parquet"
            else pa_csv.read_csv(file, convert_options=as_text)
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"--by: {file}: {str(error).splitlines()[0]}") from error
    columns = table.column_names
    key = next((name for name in ("id", "key") if columns.count(name) == 1), None)
    if key is None or columns.count(column) != 1:
        raise UserError(
            f"--by: {file}: columns {', '.join(columns)}, expected {column!r} and 'id' or 'key'"
        )
    values: dict[str, str] = {}
    for cell, of_cell in zip(table[key].to_pylist(), table[column].to_pylist(), strict=True):
        identifier, value = str(cell), _NO_VALUE if of_cell in (None, "") else str(of_cell)
        if (first := values.setdefault(identifier, value)) != value:
            raise UserError(
                f"--by: {file}: {key} {identifier!r} has two values, {first!r} and {value!r}"
            )
    return key, values


def _column_values(examples: Sequence[Example], by: str) -> list[str]:
    key, values = _read_column(by)
    names = [example.id if key == "id" else (example.item_key or "") for example in examples]
    if missing := [name for name in names if name not in values]:
        file = by.rpartition(":")[0]
        raise UserError(f"--by: {file}: has no {key} {missing[0]!r}, one of {len(missing)} missing")
    return [values[name] for name in names]
