"""What the features of some items were made of: their frames, and what the corpus says of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.corpus import Corpus, Item, items_of
from pipeline.errors import UserError
from pipeline.limits import Limits
from pipeline.sampling import parse_sampling
from pipeline.sandbox import examine
from pipeline.snapshot import ItemRecord, Snapshot, records_of
from pipeline.source import Source

MAX_FRAMES = 8
MAX_CAPTIONS = 2


@dataclass(frozen=True, slots=True)
class Sample:
    """One item, to be looked at.

    Attributes:
        key: the item's.
        pixels: the frames shown, RGB, uint8, [T, H, W, 3]; T is 0 where there is a problem.
        times_s: when each was shown, [T].
        num_frames: how many frames its features have.
        is_film: whether it is a video.
        captions: the first things that the corpus says of it.
        degraded: why only a part of its file could be read, or None.
        problem: why no frames are shown, or None.
    """

    key: str
    pixels: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    num_frames: int
    is_film: bool
    captions: tuple[str, ...] = ()
    degraded: str | None = None
    problem: str | None = None

    @property
    def repeats(self) -> NDArray[np.bool_]:
        """Which frames are the one before once more, [T]."""
        repeats: NDArray[np.bool_] = np.diff(self.times_s, prepend=-np.inf) == 0
        return repeats


def sample_items(snapshot: Snapshot, corpus: Corpus, num_items: int) -> Iterator[Sample]:
    """Decode frames of stored items, spread evenly over a snapshot.

    Args:
        snapshot: of a store.
        corpus: that it was made from; an item may have left it, or its file the disk.
        num_items: how many at most.

    Raises:
        UserError: nothing is stored, or nothing of what is comes from this corpus.
    """
    stored = np.flatnonzero(np.asarray(pc.is_valid(snapshot.table["shard"])))
    if not len(stored):
        raise UserError("the snapshot has no stored items to look at")
    num = min(num_items, len(stored))
    chosen = stored[((np.arange(num) + 0.5) * len(stored) / num).astype(int)]
    records = list(records_of(snapshot.table.take(pa.array(chosen))))
    keys = pa.array([record.key for record in records])
    table = corpus.item_table()
    items = {i.key: i for i in items_of(table.filter(pc.is_in(table["key"], value_set=keys)))}
    if not items:
        raise UserError(f"{corpus.path}: has none of the store's items; is it another's corpus?")
    captions = _captions(corpus, keys)
    for record in records:
        said = tuple(captions.get(record.key, ()))
        yield _sample(record, items.get(record.key), snapshot, str(corpus.path), said)


def _captions(corpus: Corpus, keys: pa.Array) -> dict[str, list[str]]:
    """The first captions of some items; the rest of a large corpus never becomes objects."""
    columns = ["item_key", "source", "targets"]
    with (corpus.path / "examples.parquet").open("rb") as file:
        table = pq.read_table(file, columns=columns, filters=pc.field("item_key").isin(keys))
    captions: dict[str, list[str]] = {}
    for example in table.to_pylist():
        said = captions.setdefault(example["item_key"], [])
        for target in example["targets"][: MAX_CAPTIONS - len(said)]:
            said.append(f"{example['source']} {target}" if example["source"] else target)
    return captions


def _sample(
    record: ItemRecord,
    item: Item | None,
    snapshot: Snapshot,
    corpus: str,
    captions: tuple[str, ...],
) -> Sample:
    size = snapshot.fingerprint.size
    pixels, times_s = np.zeros((0, size, size, 3), np.uint8), np.zeros(0)
    problem = None
    if item is None:
        problem = "not in this corpus"
    else:
        sampling = parse_sampling(snapshot.fingerprint.sampling)
        # What is stored was within the limits that were set then.
        limits = Limits(max_pixels=sys.maxsize)
        decoded, frames = examine(Source(item, corpus), sampling, size, limits)
        if decoded.state is not None and decoded.state.sha256 not in (None, record.sha256):
            problem = "file has changed"
        elif decoded.rejection:
            error = decoded.rejection.error
            problem = "file is gone" if error == "missing" else f"file is {error}"
        else:
            num = min(MAX_FRAMES, len(frames))
            shown = np.linspace(0, len(frames) - 1, num).round().astype(int)
            pixels, times_s = frames[shown], decoded.times_s[shown]
    return Sample(
        key=record.key,
        pixels=pixels,
        times_s=times_s,
        num_frames=record.num_frames or 0,
        is_film=record.view.startswith("video"),
        captions=captions,
        degraded=record.degraded,
        problem=problem,
    )
