"""Tables in the format of MLflow's `log_table`, with images in their cells."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

# A white pixel. MLflow's page decides by the first cell whether a column holds images, and reports
# an error for any other cell that is not an image.
_MISSING_IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


def write_table(folder: Path, path: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table in the format of MLflow's `log_table`, together with its images.

    Args:
        folder: output folder with the layout of a run's artifacts.
        path: path of the table in the folder, with the suffix .json.
        rows: values by column. A value of type bytes is a JPEG image. A missing value is null, or
            an empty image in a column of images; NaN and infinity, which JSON does not have, are
            null too.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    pictured = {column for row in rows for column, value in row.items() if _is_picture(value)}
    images = f"table_images/{path.removesuffix('.json')}"

    def cell(column: str, value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if value is None and column in pictured:
            value = _MISSING_IMAGE
        if not isinstance(value, bytes):
            return value
        # An image that is used in many rows is written to one file.
        suffix = "png" if value is _MISSING_IMAGE else "jpg"
        image = f"{images}/{hashlib.sha256(value).hexdigest()[:32]}.{suffix}"
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).write_bytes(value)
        return {"type": "image", "filepath": image, "compressed_filepath": image}

    data = [[cell(column, row.get(column)) for column in columns] for row in rows]
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    table = json.dumps({"columns": columns, "data": data}, ensure_ascii=False)
    (folder / path).write_text(table, "utf-8")


def _is_picture(value: object) -> bool:
    logged_before = isinstance(value, dict) and value.get("type") == "image"
    return isinstance(value, bytes) or logged_before


def read_table(file: Path) -> list[dict[str, object]]:
    """Read the rows of a table; an image is the reference that `write_table` wrote."""
    table = json.loads(file.read_text("utf-8"))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
