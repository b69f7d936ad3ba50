"""Samples of items for a contact sheet: their frames, and their captions in the corpus."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Corpus, Item, items_of
from intertitle.pipeline.decoding.decode import Frames
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import parse_sampling
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.snapshot import ItemRecord, Snapshot, records_of
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated
from intertitle.pipeline.storage.parquet import read_table

MAX_FRAMES = 8
MAX_CAPTIONS = 2


@dataclass(frozen=True, slots=True)
class ItemSample:
    """Frames and captions of one item.

    Attributes:
        key: key of the item.
        pixels: frames, RGB, uint8, [T, H, W, 3]; T is 0 if there is a problem.
        times_s: presentation times of the frames, in seconds, float64, [T].
        num_frames: number of frames that the features were computed from.
        is_film: whether the item is a video.
        captions: first captions of the item in the corpus.
        degraded: reason why only a part of the file could be read, or None.
        problem: reason why there are no frames, or None.
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
        """Whether each frame repeats the one before it, bool, [T]."""
        return Frames(self.pixels, self.times_s).repeats


def sample_items(snapshot: Snapshot, corpus: Corpus, num_items: int) -> Iterator[ItemSample]:
    """Decode frames of stored items, spread evenly over a snapshot.

    Args:
        snapshot: snapshot of a store.
        corpus: corpus that the store was computed from. An item that it no longer contains, or
            whose file is gone or has changed, is returned with a `problem`.
        num_items: maximum number of items.

    Raises:
        UserError: the snapshot has no stored items, none of those chosen is in the corpus, or the
            features were imported.
    """
    if snapshot.fingerprint.is_external:
        raise UserError(
            f"--contact-sheet: {snapshot.fingerprint.backbone}: imported features, whose frames "
            "are not known"
        )
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
        item_captions = tuple(captions.get(record.key, ()))
        yield _sample(record, items.get(record.key), snapshot, str(corpus.path), item_captions)


def _captions(corpus: Corpus, keys: pa.Array) -> dict[str, list[str]]:
    """Read the first captions of items; only these examples become Python objects."""
    columns = ["item_key", "source", "targets"]
    file, about = corpus.path / "examples.parquet", pc.field("item_key").isin(keys)
    table = read_table(file, columns, about)
    captions: dict[str, list[str]] = {}
    for example in table.to_pylist():
        item_captions = captions.setdefault(example["item_key"], [])
        for target in example["targets"][: MAX_CAPTIONS - len(item_captions)]:
            item_captions.append(f"{example['source']} {target}" if example["source"] else target)
    return captions


def _sample(
    record: ItemRecord,
    item: Item | None,
    snapshot: Snapshot,
    corpus: str,
    captions: tuple[str, ...],
) -> ItemSample:
    size = snapshot.fingerprint.size
    pixels, times_s = np.zeros((0, size, size, 3), np.uint8), np.zeros(0)
    problem = None
    if item is None:
        problem = "not in this corpus"
    else:
        sampling = parse_sampling(snapshot.fingerprint.sampling)
        # No limit on pixels: stored items were within the limit when their features were computed.
        limits = Limits(max_pixels=sys.maxsize)
        decoded, frames = decode_isolated(ItemFile(item, corpus), sampling, size, limits)
        if decoded.state is not None and decoded.state.sha256 not in (None, record.sha256):
            problem = "file has changed"
        elif decoded.rejection:
            error = decoded.rejection.error
            problem = "file is gone" if error == "missing" else f"file is {error}"
        else:
            # The middle of each clip.
            frames = frames[sampling.window // 2 :: sampling.window]
            num = min(MAX_FRAMES, len(frames))
            selected = np.linspace(0, len(frames) - 1, num).round().astype(int)
            pixels, times_s = frames[selected], decoded.times_s[selected]
    return ItemSample(
        key=record.key,
        pixels=pixels,
        times_s=times_s,
        num_frames=record.num_frames or 0,
        is_film=record.selection.startswith("video"),
        captions=captions,
        degraded=record.degraded,
        problem=problem,
    )
