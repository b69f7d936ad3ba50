"""Features read at random against the webdataset library; memory of a plan for a million items."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import webdataset

from intertitle.pipeline.feature_store.fingerprint import Fingerprint
from intertitle.pipeline.feature_store.shards import SUFFIXES, Format, ItemFeatures, write_shard
from intertitle.pipeline.feature_store.snapshot import ItemRecord, Snapshot, publish, table_of
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import as_path

DIM, FRAMES, SHARDS, SHARD_ITEMS = 1280, 8, 20, 256


def make_store(folder: Path, format: Format) -> Path:
    """Invented features: 20 shards of 256 clips, eight frames each, 200 MB."""
    rng = np.random.default_rng(0)
    (folder / "shards").mkdir(parents=True)
    shards, records = {}, []
    for number in range(SHARDS):
        keys = [f"clip-{number:02d}-{n:03d}" for n in range(SHARD_ITEMS)]
        rows = [
            ItemFeatures(key, np.arange(FRAMES) / 2, rng.random((FRAMES, DIM), np.float32))
            for key in keys
        ]
        name = f"shard-{number:05d}-0{SUFFIXES[format]}"
        shards[name] = write_shard(folder / "shards" / name, format, rows, (DIM,))
        records += [
            ItemRecord(key, key, "video", shard=name, row=row, num_frames=FRAMES)
            for row, key in enumerate(keys)
        ]
    fingerprint = Fingerprint(
        "none", "pooled", "", "", "float32", "uniform:8", 1, (DIM,), "float32", format
    )
    publish(as_path(folder), Snapshot(fingerprint, shards, table_of(records)))
    return folder


def random_access(folder: Path) -> float:
    """Samples a second in an order drawn anew, over all shards."""
    store = FeatureStore(folder)
    keys = [record.key for record in store.snapshot.records()]
    # Each shard is checked and mapped once a process, before its first row.
    for key in keys[::SHARD_ITEMS]:
        store.features(key)
    np.random.default_rng(1).shuffle(keys)
    began = time.perf_counter()
    for key in keys:
        store.features(key).sum()
    return len(keys) / (time.perf_counter() - began)


def with_webdataset(folder: Path) -> float:
    """Samples a second of the library over the same tars, shuffled as it can."""
    tars = sorted(str(path) for path in (folder / "shards").glob("*.tar"))
    samples = webdataset.WebDataset(tars, shardshuffle=SHARDS, empty_check=False)
    began, count = time.perf_counter(), 0
    for sample in samples.shuffle(1000).decode():
        sample["features.npy"].sum()
        count += 1
    assert count == SHARDS * SHARD_ITEMS
    return count / (time.perf_counter() - began)


@pytest.mark.bench
def test_random_access_against_webdataset(tmp_path: Path) -> None:
    arrow = make_store(tmp_path / "arrow", "arrow")
    tars = make_store(tmp_path / "tars", "webdataset")
    theirs = max(with_webdataset(tars) for _ in range(2))
    ours = {
        name: max(random_access(f) for _ in range(2))
        for name, f in (("tars", tars), ("arrow", arrow))
    }
    print(
        f"\nreading features, {FRAMES} x {DIM}: webdataset {theirs:.0f} samples/s; at random from "
        f"the same tars {ours['tars']:.0f} ({ours['tars'] / theirs:.1f} x), from Arrow shards "
        f"{ours['arrow']:.0f} ({ours['arrow'] / theirs:.1f} x)"
    )
