"""Rules that the tables of a corpus follow."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from intertitle.pipeline.corpus.schema import Kind
from intertitle.pipeline.errors import UserError


def check_items(table: pa.Table, where: str) -> None:
    """Check an item table.

    Args:
        table: table with the columns ITEM_SCHEMA.
        where: name of the table, for messages.

    Raises:
        UserError: a key is duplicate, a kind is unknown, or a segment ends before it starts.
    """
    _check_unique(table["key"], where, "key")
    kinds = get_args(Kind)
    row = _first(pc.invert(pc.is_in(table["kind"], value_set=pa.array(kinds))))
    if row is not None:
        raise UserError(
            f"{where}: row {row}: kind {table['kind'][row].as_py()!r}, allowed: {', '.join(kinds)}"
        )
    row = _first(pc.less_equal(table["end_s"], table["start_s"]))
    if row is not None:
        item = table.slice(row, 1).to_pylist()[0]
        raise UserError(
            f"{where}: row {row} ({item['key']!r}): end_s {item['end_s']} is not after "
            f"start_s {item['start_s']}"
        )


def check_examples(table: pa.Table, keys: pa.ChunkedArray) -> None:
    """Check an example table.

    Args:
        table: table with the columns `id` and `item_key`.
        keys: keys of the corpus' items.

    Raises:
        UserError: an id is duplicate, or an item is unknown.
    """
    _check_unique(table["id"], "examples", "id")
    unknown = pc.and_(
        pc.is_valid(table["item_key"]), pc.invert(pc.is_in(table["item_key"], value_set=keys))
    )
    row = _first(unknown)
    if row is not None:
        example = table.slice(row, 1).to_pylist()[0]
        raise UserError(
            f"examples: row {row} ({example['id']!r}): item_key {example['item_key']!r} "
            "is not among the items"
        )


def _check_unique(column: pa.ChunkedArray, where: str, name: str) -> None:
    first_seen = pc.index_in(column, value_set=column)
    row = _first(pc.less(first_seen, pa.array(np.arange(len(column), dtype=np.int32))))
    if row is not None:
        raise UserError(
            f"{where}: rows {first_seen[row].as_py()} and {row} share the {name} "
            f"{column[row].as_py()!r}; {name}s are unique"
        )


def _first(mask: pa.ChunkedArray) -> int | None:
    """Return the index of the first true value of a mask, or None; null is not true."""
    row = pc.index(mask, True).as_py()
    return None if row < 0 else int(row)
