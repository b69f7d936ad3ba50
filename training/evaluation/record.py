"""Stored evaluations: a Parquet file with one row per example and JSON files.

`how.json` has the settings, and `slices.json` the scores of slices, if there are any.

They hold everything that a comparison of runs needs: the texts of each example, and each metric's
statistics.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.training.config.metrics import METRICS
from intertitle.training.evaluation.evaluate import Evaluation
from intertitle.training.evaluation.significance import ScoreInterval
from intertitle.training.evaluation.slices import Slice

EVALUATIONS = "eval"  # the folder of a run's evaluations

RECORD_FORMAT = FormatVersion("evaluation record", 1)
EXAMPLES_FILE, HOW_FILE, SLICES_FILE = "examples.parquet", "how.json", "slices.json"
_STATISTICS = "statistics/"


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """A stored evaluation; all sequences have B entries, in the order of the split.

    Attributes:
        description: split, data, search settings, scores and their signatures.
        ids: ids of the examples.
        item_keys: keys of the examples' items, each a string or None.
        sources: source texts, each a string or None.
        hypotheses: outputs of the model.
        references: reference texts of each example.
        scores: the model's scores of the hypotheses.
        reference_scores: the model's scores of the most probable references, NaN where there is
            none; see `Sample.reference_score`.
        statistics: statistics of each metric, [B, S]; see `evaluation.metrics.sufficient_stats`.
        slices: scores of parts of the split.
    """

    description: dict[str, Any]
    ids: tuple[str, ...]
    item_keys: tuple[str | None, ...]
    sources: tuple[str | None, ...]
    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    scores: NDArray[np.float64]
    reference_scores: NDArray[np.float64]
    statistics: dict[str, NDArray[np.float64]]
    slices: tuple[Slice, ...] = ()


def write_record(folder: Path, evaluation: Evaluation, description: Mapping[str, Any]) -> None:
    """Write an evaluation into an existing folder.

    Args:
        folder: path of the folder.
        evaluation: evaluation to write.
        description: description of the evaluation; see `EvaluationRecord`.
    """
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
    settings = {VERSION_FIELD: RECORD_FORMAT.version, **description}
    (folder / HOW_FILE).write_text(json.dumps(settings, indent=1, ensure_ascii=False), "utf-8")
    if evaluation.slices:
        slices = [asdict(part) for part in evaluation.slices]
        (folder / SLICES_FILE).write_text(json.dumps(slices), "utf-8")


def read_record(folder: Path) -> EvaluationRecord:
    """Read an evaluation that `write_record` wrote.

    Metrics that can't be imported, such as those of a package that is not installed, are left out,
    with the reason in `not_measured` of the description.

    Raises:
        UserError: the evaluation has another version of the format.
        OSError: one of the files is missing.
    """
    description = json.loads((folder / HOW_FILE).read_text("utf-8"))
    RECORD_FORMAT.check(folder / HOW_FILE, description.pop(VERSION_FIELD, None))
    table = pq.read_table(folder / EXAMPLES_FILE)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    metrics = [n.removeprefix(_STATISTICS) for n in columns if n.startswith(_STATISTICS)]
    unusable = {name: reason for name in metrics if (reason := _why_unusable(name))}
    if unusable:
        description["not_measured"] = description.get("not_measured", {}) | unusable
    return EvaluationRecord(
        description,
        tuple(columns["id"]),
        tuple(columns["item_key"]),
        tuple(columns["source"]),
        tuple(columns["hypothesis"]),
        tuple(tuple(group) for group in columns["references"]),
        np.asarray(columns["score"], np.float64),
        np.asarray(columns["reference_score"], np.float64),
        {
            name: np.asarray(columns[_STATISTICS + name], np.float64)
            for name in metrics
            if name not in unusable
        },
        _read_slices(folder / SLICES_FILE),
    )


def _read_slices(file: Path) -> tuple[Slice, ...]:
    rows = json.loads(file.read_text("utf-8")) if file.exists() else []
    return tuple(
        Slice(
            row["by"],
            row["value"],
            row["num_examples"],
            {name: ScoreInterval(**score) for name, score in row["scores"].items()},
        )
        for row in rows
    )


def _why_unusable(metric: str) -> str | None:
    """Return why a metric can't be computed on this machine; None if it can."""
    if metric not in METRICS.names():
        return "no installed package has this metric"
    try:
        METRICS.load(metric, "metric")
    except UserError as error:
        return str(error)
    return None
