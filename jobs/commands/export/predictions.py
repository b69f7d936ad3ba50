"""Predictions in the formats of other programs, COCO's results above all."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.export.output import Exported, check_new
from intertitle.pipeline.export.rows import coco_numbers
from intertitle.pipeline.storage.paths import as_path, atomic_write
from intertitle.training.inference.prediction_io import (
    Prediction,
    read_prediction_tables,
    read_predictions,
    write_predictions,
)

PREDICTION_FORMATS = ("coco", "csv", "parquet")


def is_predictions(path: Path) -> bool:
    """Return whether a path has the name of predictions: a file, or a folder of parts."""
    if path.is_dir():
        return (path / "_predictions.json").is_file()
    return path.is_file() and path.suffix in (".jsonl", ".parquet")


def export_predictions(source: Path, format: str, out: Path, corpus: Corpus | None) -> Exported:
    """Write predictions in another format.

    Args:
        source: JSON lines, a Parquet file, or a folder of parts.
        format: one of PREDICTION_FORMATS.
        out: new file.
        corpus: corpus of the predictions; None if their ids are COCO's numbers.

    Raises:
        UserError: the format is not known, the predictions cannot be read, an id is not of the
            corpus, or `out` exists.
    """
    if format not in PREDICTION_FORMATS:
        allowed = ", ".join(PREDICTION_FORMATS)
        raise UserError(f"--to {format}: allowed for predictions: {allowed}")
    check_new(out)
    if format == "parquet" and out.suffix != ".parquet":
        raise UserError(f"{out}: allowed for parquet: a name with the ending .parquet")
    if source.suffix == ".jsonl":
        predictions = read_predictions(source, scored=False)
    else:
        predictions = read_prediction_tables(source)
    if format == "parquet":
        write_predictions(out, predictions)
        return Exported(rows=len(predictions))
    text = _as_csv(predictions)
    if format == "coco":
        predictions = [prediction for prediction in predictions if prediction.rank == 1]
        text = json.dumps(coco_results(predictions, corpus), ensure_ascii=False)
    atomic_write(as_path(out), lambda file: file.write(text.encode()))
    return Exported(rows=len(predictions))


def coco_results(predictions: list[Prediction], corpus: Corpus | None) -> list[dict[str, Any]]:
    """Return the results of COCO's caption or VQA's evaluation.

    Args:
        predictions: a prediction for each input.
        corpus: corpus of the inputs; questions make results of VQA. None takes the ids as numbers.

    Raises:
        UserError: an id is not of the corpus, or not a number without one, or an image has two
            captions.
    """
    if corpus is None:
        numbers = coco_numbers([prediction.id for prediction in predictions])
        for prediction in predictions:
            if str(numbers[prediction.id]) not in prediction.id:
                raise UserError(
                    f"--corpus: missing; it numbers the images, since {prediction.id!r} has no "
                    "number of COCO"
                )
        return _captions(predictions, numbers)
    examples = corpus.example_table()
    ids = examples["id"].to_pylist()
    if examples["source"].null_count < len(examples):
        numbers = coco_numbers(ids)
        _check_known(predictions, numbers, corpus)
        return [{"question_id": numbers[p.id], "answer": p.text} for p in predictions]
    keys = coco_numbers(corpus.item_table()["key"].to_pylist())
    named = zip(ids, examples["item_key"].to_pylist(), strict=True)
    numbers = {**{id: keys[key] for id, key in named if key is not None}, **keys}
    _check_known(predictions, numbers, corpus)
    return _captions(predictions, numbers)


def _check_known(predictions: list[Prediction], numbers: dict[str, int], corpus: Corpus) -> None:
    for prediction in predictions:
        if prediction.id not in numbers:
            raise UserError(f"{prediction.id!r}: no example or item of {corpus.path}")


def _captions(predictions: list[Prediction], numbers: dict[str, int]) -> list[dict[str, Any]]:
    first_of: dict[int, str] = {}
    for prediction in predictions:
        first = first_of.setdefault(numbers[prediction.id], prediction.id)
        if first != prediction.id:
            raise UserError(f"{first!r}, {prediction.id!r}: two captions of one image")
    return [{"image_id": numbers[p.id], "caption": p.text} for p in predictions]


def _as_csv(predictions: list[Prediction]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["id", "rank", "score", "text"])
    writer.writeheader()
    writer.writerows(asdict(prediction) for prediction in predictions)
    return text.getvalue()
