"""Read and write predictions: text, JSON lines or Parquet.

A line of JSON or a row of Parquet has the fields of a `Prediction`: `id`, `rank`, `score` and
`text`. The n-best list of another system can be read too.

Each line of JSON has the version of the format, so that files may be split and concatenated; a
Parquet file has it in its metadata, and a text file has none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from intertitle.pipeline.errors import UserError, is_text
from intertitle.pipeline.storage.format_version import VERSION_FIELD, FormatVersion
from intertitle.pipeline.storage.paths import as_path, atomic_write

PREDICTIONS_FORMAT = FormatVersion("predictions", 1)
# Version of a line that does not name one, such as a line of another system.
_DEFAULT_VERSION = 1
SUFFIXES = (".txt", ".jsonl", ".parquet")
_SCHEMA = pa.schema(
    [("id", pa.string()), ("rank", pa.int32()), ("score", pa.float64()), ("text", pa.string())],
    PREDICTIONS_FORMAT.metadata(),
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Prediction of a model for one input.

    Attributes:
        id: id of the input: the id of an example, the key of an item, the path of a file or the
            source text; "" for text that a language model generates without input.
        rank: rank among the predictions with the same id, from 1, the best.
        score: score of the prediction, see `Answer.score`.
        text: predicted sentence, label, or labels of frames joined by " | ".
    """

    id: str
    rank: int
    score: float
    text: str

    def to_json(self) -> str:
        """Return the prediction as one line of JSON."""
        version = {VERSION_FIELD: PREDICTIONS_FORMAT.version}
        return json.dumps(asdict(self) | version, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Input file that could not be read, in place of its predictions.

    Attributes:
        input: path of the file, as the caller passed it.
        error: class of the failure, as for an item in quarantine.
        message: error message, one line.
    """

    input: str
    error: str
    message: str


def check_out(path: Path, nbest: int) -> None:
    """Check that predictions can be written to a path.

    Raises:
        UserError: the suffix is not supported, or the parent folder does not exist. The message
            names the path and the supported suffixes.
    """
    allowed = SUFFIXES[1:] if nbest > 1 else SUFFIXES
    if path.suffix not in allowed:
        several = " for several of an input" if nbest > 1 else ""
        raise UserError(
            f"--out: {path}: ending {path.suffix!r}, allowed{several}: {' '.join(allowed)}"
        )
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out: {path}: no folder {path.absolute().parent}")


def write_predictions(path: Path, results: Sequence[Prediction | Failure]) -> None:
    """Write a file atomically in the format that its suffix names.

    Args:
        path: output path with one of `SUFFIXES`. A text file has one line per prediction (running
            text may span several) and an empty line per failure, so that its lines match the
            inputs. The other formats leave failures out.
        results: predictions and failures in order.
    """
    predictions = [item for item in results if isinstance(item, Prediction)]
    if path.suffix == ".parquet":
        rows = [asdict(prediction) for prediction in predictions]
        table = pa.Table.from_pylist(rows, _SCHEMA)
        atomic_write(as_path(path), lambda file: pq.write_table(table, file))
    else:
        lines = texts_of(results) if path.suffix == ".txt" else [p.to_json() for p in predictions]
        text = "".join(f"{line}\n" for line in lines)
        atomic_write(as_path(path), lambda file: file.write(text.encode()))


def texts_of(results: Sequence[Prediction | Failure]) -> list[str]:
    """Return one line per prediction; the line of a failure is empty."""
    return [item.text if isinstance(item, Prediction) else "" for item in results]


def read_predictions(path: Path, *, scored: bool) -> list[Prediction]:
    """Read predictions from JSON lines.

    Fields other than these and the version of the format are ignored. A line without a version has
    version 1, and one without a `rank` is ranked after the previous lines with the same id.

    Args:
        path: path of the file.
        scored: whether each line must have a score; otherwise a missing score is 0.

    Raises:
        UserError: the file has no predictions, or a line is invalid or has another version. The
            message names the file, the line, the field, its value and what is allowed.
    """
    predictions: list[Prediction] = []
    ranks: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        fields = _fields(line, where)
        PREDICTIONS_FORMAT.check(where, fields.get(VERSION_FIELD, _DEFAULT_VERSION))
        text_id = _check(fields, "id", is_text(fields.get("id")), "a text", where)
        text = _check(fields, "text", is_text(fields.get("text")), "a text", where)
        rank = fields.setdefault("rank", ranks.get(text_id, 0) + 1)
        _check(fields, "rank", type(rank) is int and rank > 0, "a whole number from 1", where)
        if not scored:
            fields.setdefault("score", 0.0)
        score: Any = fields.get("score")
        # The comparison is false for NaN and for an integer too large for a float.
        finite = type(score) in (int, float) and abs(score) <= sys.float_info.max
        _check(fields, "score", finite, "a finite number", where)
        ranks[text_id] = max(rank, ranks.get(text_id, 0))
        predictions.append(Prediction(text_id, rank, float(score), text))
    if not predictions:
        raise UserError(f"{path}: no line in it, allowed: JSON lines with id, rank, score, text")
    return predictions


def read_prediction_tables(path: Path) -> list[Prediction]:
    """Read predictions from a Parquet file, or from a folder of them.

    Raises:
        UserError: a file is damaged, has other columns, or is of another version.
    """
    predictions: list[Prediction] = []
    for file in sorted(path.glob("*.parquet")) if path.is_dir() else [path]:
        try:
            table = pq.read_table(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file}: not a Parquet file: {error}") from error
        PREDICTIONS_FORMAT.check_metadata(file, table.schema.metadata)
        if table.schema.names != _SCHEMA.names:
            raise UserError(f"{file}: columns {table.schema.names}, expected {_SCHEMA.names}")
        predictions += [Prediction(**row) for row in table.to_pylist()]
    if not predictions:
        raise UserError(f"{path}: no predictions in it")
    return predictions


def _fields(line: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{where}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{where}: {fields!r}, allowed: an object with id, rank, score, text")
    return fields


def _check(fields: dict[str, Any], name: str, is_good: bool, allowed: str, where: str) -> Any:
    if name not in fields:
        raise UserError(f"{where}: {name}: missing, allowed: {allowed}")
    if not is_good:
        raise UserError(f"{where}: {name}: {fields[name]!r}, allowed: {allowed}")
    return fields[name]
