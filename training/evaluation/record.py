"""An evaluation as it is kept: a row an example in Parquet, and how it was made.

All that runs are compared by is in here: the words of each example and each metric's statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.evaluation.evaluate import Evaluation

EXAMPLES_FILE, HOW_FILE = "examples.parquet", "how.json"
_STATISTICS = "statistics/"


@dataclass(frozen=True, slots=True)
class Record:
    """An evaluation as it was kept; all sequences have B entries, in the split's order.

    Attributes:
        how: the split, the data, the search, the scores and their signatures.
        ids: of the examples.
        item_keys: of what they are about, or None.
        sources: what was read, or None.
        hypotheses: what the model said.
        references: what people say.
        scores: the model's own, of what it said.
        reference_scores: likewise, of the likeliest reference, NaN where there is none; see
            `Sample.reference_score`.
        statistics: [B, S] for each metric; see `training.evaluation.statistics`.
    """

    how: dict[str, Any]
    ids: tuple[str, ...]
    item_keys: tuple[str | None, ...]
    sources: tuple[str | None, ...]
    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    scores: NDArray[np.float64]
    reference_scores: NDArray[np.float64]
    statistics: dict[str, NDArray[np.float64]]


def write_record(folder: Path, evaluation: Evaluation, how: Mapping[str, Any]) -> None:
    """Write an evaluation into a folder that exists."""
    samples = evaluation.samples
    columns: dict[str, pa.Array] = {
        "id": pa.array([sample.id for sample in samples], pa.string()),
        "item_key": pa.array([sample.item_key for sample in samples], pa.string()),
        "source": pa.array([sample.source for sample in samples], pa.string()),
        "hypothesis": pa.array([sample.hypothesis for sample in samples], pa.string()),
        "references": pa.array([list(s.references) for s in samples], pa.list_(pa.string())),
        "score": pa.array([sample.score for sample in samples], pa.float64()),
        "reference_score": pa.array([sample.reference_score for sample in samples], pa.float64()),
    }
    for metric, rows in evaluation.scores.statistics.items():
        columns[_STATISTICS + metric] = pa.array(rows.tolist(), pa.list_(pa.float64()))
    pq.write_table(pa.table(columns), folder / EXAMPLES_FILE)
    (folder / HOW_FILE).write_text(json.dumps(how, indent=1, ensure_ascii=False), "utf-8")


def read_record(folder: Path) -> Record:
    """The inverse of `write_record`.

    Raises:
        OSError: one of the files is not there.
    """
    table = pq.read_table(folder / EXAMPLES_FILE)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return Record(
        json.loads((folder / HOW_FILE).read_text("utf-8")),
        tuple(columns["id"]),
        tuple(columns["item_key"]),
        tuple(columns["source"]),
        tuple(columns["hypothesis"]),
        tuple(tuple(group) for group in columns["references"]),
        np.asarray(columns["score"], np.float64),
        np.asarray(columns["reference_score"], np.float64),
        {
            name.removeprefix(_STATISTICS): np.asarray(rows, np.float64)
            for name, rows in columns.items()
            if name.startswith(_STATISTICS)
        },
    )
