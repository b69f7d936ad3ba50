"""Items and examples, and the tables that contain them on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from intertitle.pipeline.storage.format_version import FormatVersion
from intertitle.pipeline.storage.parquet import TEXT

Kind = Literal["video", "image"]

# Number of rows that are converted to Python objects at a time.
_PART = 10_000
CORPUS_FORMAT = FormatVersion("corpus", 1)
TABLES = ("items.parquet", "examples.parquet")
# Name of the folder of pins in a corpus or a store; `feature_store.pins` describes them.
PINS = "pins"

# Metadata field of the examples for the language code of their targets.
LANGUAGE_FIELD = b"target_language"

ITEM_SCHEMA = pa.schema(
    [
        pa.field("key", TEXT, nullable=False),
        pa.field("uri", TEXT, nullable=False),
        pa.field("kind", TEXT, nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
    ],
    CORPUS_FORMAT.metadata(),
)
EXAMPLE_SCHEMA = pa.schema(
    [
        pa.field("id", TEXT, nullable=False),
        pa.field("split", TEXT, nullable=False),
        pa.field("item_key", TEXT),
        pa.field("source", TEXT),
        pa.field("targets", pa.list_(TEXT), nullable=False),
    ],
    CORPUS_FORMAT.metadata(),
)


@dataclass(frozen=True, slots=True)
class Item:
    """One video, image, or segment of a video.

    Attributes:
        key: unique name in the corpus; any text.
        uri: path, absolute or relative to the corpus folder, or any URL that fsspec supports; or
            the bytes of a larger file (see `members`).
        kind: kind of the item, "video" or "image".
        start_s: start of the segment in seconds; None is the start of the video.
        end_s: end of the segment in seconds; None is the end of the video.
    """

    key: str
    uri: str
    kind: Kind
    start_s: float | None = None
    end_s: float | None = None

    @property
    def selection(self) -> str:
        """Description of the part of a file: the kind, and the segment if there is one."""
        if self.start_s is None and self.end_s is None:
            return self.kind
        return f"{self.kind} {self.start_s}..{self.end_s} s"


@dataclass(frozen=True, slots=True)
class Example:
    """One example for training or evaluating a model.

    Attributes:
        id: unique id in the corpus.
        split: name of the split: "train", "val", "test" or any other.
        item_key: key of the example's item, or None for a task without items.
        source: input text besides the item, such as a question or a sentence, or None.
        targets: reference output texts; captioning has several.
    """

    id: str
    split: str
    item_key: str | None
    source: str | None
    targets: tuple[str, ...]


def items_of(table: pa.Table) -> list[Item]:
    """Convert the rows of an item table to items."""
    return [Item(**row) for row in table.to_pylist()]


def examples_of(table: pa.Table) -> Iterator[Example]:
    """Convert the rows of an example table to examples, a part of the table at a time."""
    for part in table.to_batches(max_chunksize=_PART):
        for row in part.to_pylist():
            yield Example(**{**row, "targets": tuple(row["targets"])})
