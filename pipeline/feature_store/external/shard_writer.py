"""Write the shards of an import of features."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from upath import UPath

from intertitle.pipeline.feature_store.shards import (
    SUFFIXES,
    Format,
    ItemFeatures,
    ShardFile,
    file_sha256,
    write_shard,
)
from intertitle.pipeline.storage.paths import atomic_write, downloaded


class ShardWriter:
    """Writes the shards of a store; equal rows give equal files.

    Args:
        store: folder of the store.
        format: format of the shards.
        shard_items: number of items per shard.
        shape: shape of one frame's features: (D,) or (cells, D).

    Attributes:
        shards: files that were written.
    """

    def __init__(
        self, store: UPath, format: Format, shard_items: int, shape: tuple[int, ...]
    ) -> None:
        self._store, self._format, self._shape = store, format, shape
        self._shard_items = shard_items
        self._rows: list[ItemFeatures] = []
        self.shards: list[ShardFile] = []

    def add(self, row: ItemFeatures) -> tuple[int, int]:
        """Add the features of an item; return the numbers of its shard and of its row."""
        self._rows.append(row)
        place = len(self.shards), len(self._rows) - 1
        if len(self._rows) == self._shard_items:
            self.flush()
        return place

    def flush(self) -> None:
        """Write the rows that are not written yet."""
        if not self._rows:
            return
        with tempfile.TemporaryDirectory(prefix="intertitle-") as scratch:
            local = Path(scratch) / "shard"
            shard = write_shard(local, self._format, self._rows, self._shape)
            name = f"shard-{len(self.shards):05d}-{shard.sha256[:12]}"
            name += SUFFIXES[self._format]
            _publish_shard(local, self._store / "shards" / name, shard.sha256)
        self.shards.append(replace(shard, name=name))
        self._rows = []


def _publish_shard(local: Path, target: UPath, sha256: str) -> None:
    """Give a shard its name, durably; an equal file, which others may be reading, stays."""
    if target.exists():
        with downloaded(target) as existing:
            if file_sha256(existing) == sha256:
                return

    def write(file: BinaryIO) -> None:
        with local.open("rb") as source:
            shutil.copyfileobj(source, file)

    atomic_write(target, write)
