"""Tables as MLflow's page shows them, with pictures in their cells."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

# White, one pixel. MLflow's page takes a column for pictures by its first cell, and complains of
# any other that is none.
_NO_PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
)


def write_table(folder: Path, path: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table as MLflow's `log_table` lays it out, and the pictures beside it.

    Args:
        folder: laid out as a run's artifacts are.
        path: of the table in it, ending in .json.
        rows: values by column. One of bytes is a picture, a JPEG; what a row lacks is null, or an
            empty picture; null is also a number that JSON does not have.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    pictured = {column for row in rows for column, value in row.items() if _is_picture(value)}
    images = f"table_images/{path.removesuffix('.json')}"

    def cell(column: str, value: object) -> object:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        if value is None and column in pictured:
            value = _NO_PICTURE
        if not isinstance(value, bytes):
            return value
        # A picture that stands in many rows is one file.
        suffix = "png" if value is _NO_PICTURE else "jpg"
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
    """The rows of a table; a picture is what `write_table` made of it."""
    table = json.loads(file.read_text("utf-8"))
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
