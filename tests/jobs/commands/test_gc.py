"""`intertitle gc`: what it says it removed, and how its mistakes end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.feature_store.shards import ItemFeatures, write_shard
from intertitle.pipeline.feature_store.snapshot import ItemRecord, Snapshot, publish, table_of
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.paths import as_path
from tests.fingerprints import FINGERPRINT


def publish_one(store: Path, number: int) -> str:
    """A snapshot of one item in one shard."""
    path = store / "shards" / f"shard-{number:05d}-abc.arrow"
    path.parent.mkdir(parents=True, exist_ok=True)
    features = np.full((2, 3), number, np.float32)
    shard = write_shard(path, "arrow", [ItemFeatures("key", np.zeros(2), features)], (3,))
    record = ItemRecord("key", "key.mp4", "video", "0", 1, 1, shard.name, 0, 2)
    return publish(as_path(store), Snapshot(FINGERPRINT, {shard.name: shard}, table_of([record])))


@pytest.fixture
def ids(tmp_path: Path) -> list[str]:
    """A store with three snapshots; the last is the current one."""
    return [publish_one(tmp_path / "store", number) for number in range(3)]


def files(store: Path) -> set[Path]:
    return {path for path in store.rglob("*") if path.is_file() and path.name != "LOCK"}


def test_a_dry_run_only_says_what_would_go(intertitle, ids: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = files(store)
    num_bytes = sum(path.stat().st_size for path in before)
    ended = intertitle("gc", store, "--dry-run", "--json")
    assert ended.code == 0 and files(store) == before
    text = " ".join(ended.out.split())
    assert "would be removed what ┃ files ┃ size" in text
    assert "old snapshots │ 2 │ " in text and "shards of no snapshot │ 2 │ " in text
    planned = json.loads(ended.out.splitlines()[-1])
    assert planned["dry_run"] is True and planned["files"] == 4

    ended = intertitle("gc", store, "--json")
    removed = json.loads(ended.out.splitlines()[-1])
    assert removed == {**planned, "dry_run": False}
    assert sum(pile["files"] for pile in removed["removed"].values()) == removed["files"]
    left = files(store)
    assert len(left) == 3
    assert removed["bytes"] == num_bytes - sum(path.stat().st_size for path in left)
    assert (
        f"4 files, {removed['bytes'] / 1000:.1f} kB removed; snapshot {ids[2]} stays" in ended.out
    )
    assert FeatureStore(store).features("key")[0, 0] == 2


def test_a_snapshot_can_be_kept(intertitle, ids: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    ended = intertitle("gc", store, "--keep", ids[0], "--keep", ids[1], "--json")
    *lines, last = ended.out.splitlines()
    assert json.loads(last)["kept"] == [ids[2], ids[0], ids[1]]
    assert lines == [f"{store}: 0 files, 0 bytes removed; snapshot {ids[2]} stays with 2 others"]
    intertitle("gc", store, "--keep", ids[0])
    assert FeatureStore(store, ids[0]).features("key")[0, 0] == 0
    assert len(files(store)) == 5


def test_a_mistake_ends_in_one_line(intertitle, ids: list[str], tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = files(store)
    for arguments, message in (
        ([tmp_path / "no"], f"{tmp_path / 'no'}: not a feature store"),
        ([store, "--keep", "x"], f"{store}: has no snapshot 'x', allowed: {sorted(ids)[0]}, "),
    ):
        ended = intertitle("gc", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err.startswith(f"intertitle: {message}") and ended.err.count("\n") == 1
    assert files(store) == before and not (tmp_path / "no").exists()
