"""Predictions as files: text, JSON lines or Parquet; and back, as the list of another system too.

A line of JSON, or a row of Parquet, has what a `Prediction` has: `id`, `rank`, `score` and `text`.
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

from pipeline.errors import UserError, is_text

SUFFIXES = (".txt", ".jsonl", ".parquet")
_SCHEMA = pa.schema(
    [("id", pa.string()), ("rank", pa.int32()), ("score", pa.float64()), ("text", pa.string())]
)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model tells of one thing.

    Attributes:
        id: what was asked: of an example its id, else a file's path, or the text that was read; ""
            where a model writes of itself.
        rank: from 1, the best, of those with the same id.
        score: see `Answer.score`.
        text: a sentence, a label, or the labels of frames joined by " | ".
    """

    id: str
    rank: int
    score: float
    text: str

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be read, in the place of what would have been told of it.

    Attributes:
        input: its path, as it was given.
        error: the class of the failure, as that of an item in quarantine.
        message: one line.
    """

    input: str
    error: str
    message: str


def check_out(path: Path, nbest: int) -> None:
    """Make sure that predictions can be written there.

    Raises:
        UserError: names the path and the endings that are allowed.
    """
    allowed = SUFFIXES[1:] if nbest > 1 else SUFFIXES
    if path.suffix not in allowed:
        several = " for several of an input" if nbest > 1 else ""
        raise UserError(
            f"--out: {path}: ending {path.suffix!r}, allowed{several}: {' '.join(allowed)}"
        )
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out: {path}: no folder {path.absolute().parent}")


def write_predictions(path: Path, told: Sequence[Prediction | Failure]) -> None:
    """Write a file, all or nothing, in the form that its ending names.

    Args:
        path: ends in one of `SUFFIXES`; a file of text has a line a prediction and no more (but for
            the lines of running text), and an empty one for each failure: its lines are those of
            the inputs. The others leave failures out.
        told: in order.
    """
    predictions = [one for one in told if isinstance(one, Prediction)]
    scratch = path.with_name(f".{path.name}.part")
    if path.suffix == ".parquet":
        rows = [asdict(prediction) for prediction in predictions]
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), scratch)
    else:
        lines = texts_of(told) if path.suffix == ".txt" else [p.to_json() for p in predictions]
        scratch.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    scratch.replace(path)


def texts_of(told: Sequence[Prediction | Failure]) -> list[str]:
    """A line each: a failure is an empty one."""
    return [one.text if isinstance(one, Prediction) else "" for one in told]


def read_predictions(path: Path, *, scored: bool) -> list[Prediction]:
    """Read JSON lines. Fields but `id`, `rank`, `score` and `text` are passed over; without a
    `rank` a line comes after those before it with its id.

    Args:
        path: of them.
        scored: whether each has to have a score; 0 where it has none.

    Raises:
        UserError: there is none, or a line is none of these: names the file, the line, the field,
            its value and what is allowed.
    """
    predictions: list[Prediction] = []
    ranks: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        fields = _fields(line, where)
        text_id = _check(fields, "id", is_text(fields.get("id")), "a text", where)
        text = _check(fields, "text", is_text(fields.get("text")), "a text", where)
        rank = fields.setdefault("rank", ranks.get(text_id, 0) + 1)
        _check(fields, "rank", type(rank) is int and rank > 0, "a whole number from 1", where)
        if not scored:
            fields.setdefault("score", 0.0)
        score: Any = fields.get("score")
        # Of a number too large for a float, and of NaN, it is not so.
        finite = type(score) in (int, float) and abs(score) <= sys.float_info.max
        _check(fields, "score", finite, "a finite number", where)
        ranks[text_id] = max(rank, ranks.get(text_id, 0))
        predictions.append(Prediction(text_id, rank, float(score), text))
    if not predictions:
        raise UserError(f"{path}: no line in it, allowed: JSON lines with id, rank, score, text")
    return predictions


def _fields(line: bytes, where: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:  # no JSON, or not UTF-8
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
