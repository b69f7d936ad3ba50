"""Snapshots, the pointer to the one that counts, and readers who trust it alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import intertitle.pipeline.feature_store.store
import intertitle.pipeline.storage.paths
from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.feature_store.fingerprint import Fingerprint, make_fingerprint
from intertitle.pipeline.feature_store.shards import (
    SUFFIXES,
    Format,
    ItemFeatures,
    ShardFile,
    write_shard,
)
from intertitle.pipeline.feature_store.snapshot import (
    ItemRecord,
    Snapshot,
    current_snapshot,
    forget_stopped,
    publish,
    read_stopped,
    table_of,
    write_snapshot,
    write_stopped,
)
from intertitle.pipeline.feature_store.store import FeatureStore, KeyIndex
from intertitle.pipeline.storage.paths import as_path

SPEC = replace(backbone_spec("efficientnet_lite0"), shape=(3,))
LOST = ItemRecord(
    "lost", "lost.mp4", "video", stage="decode", error="missing", message="lost.mp4: gone"
)


def values_of(key: str) -> np.ndarray:
    return np.full((2, *SPEC.shape), sum(key.encode()), np.float32)


def make_snapshot(folder: Path, keys: Sequence[str], format: Format = "arrow") -> Snapshot:
    """Write a shard of some keys, and a snapshot of them and of one quarantined item."""
    path = folder / "shards" / f"shard-00000-{'-'.join(keys)}{SUFFIXES[format]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [ItemFeatures(key, np.zeros(2), values_of(key)) for key in keys]
    shard = write_shard(path, format, rows, SPEC.shape)
    records = [
        ItemRecord(key, f"{key}.mp4", "video", key * 64, 9, 1, shard.name, row, 2)
        for row, key in enumerate(keys)
    ]
    fingerprint = make_fingerprint(SPEC, Uniform(2), format, "float32")
    return Snapshot(fingerprint, {shard.name: shard}, table_of([*records, LOST]))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def only_shard(store: Path) -> Path:
    (path,) = (store / "shards").iterdir()
    return path


def test_a_snapshot_comes_back_as_it_was_published(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, "ab")
    name = publish(as_path(tmp_path), snapshot)
    assert current_snapshot(as_path(tmp_path)) == snapshot
    assert FeatureStore(tmp_path).snapshot_id == name == snapshot.id()
    assert snapshot.counts() == {"stored": 2, "degraded": 0, "quarantined": 1, "file_missing": 0}
    assert snapshot.quarantined() == [LOST]


def test_items_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, "abcde")
    *stored, lost = snapshot.records()
    stored[:2] = [replace(record, degraded="cut short") for record in stored[:2]]
    stored[1:4] = [replace(record, file_missing=True) for record in stored[1:4]]
    snapshot = replace(snapshot, table=table_of([*stored, lost]))
    assert len(snapshot) == 6
    assert snapshot.counts() == {"stored": 5, "degraded": 2, "quarantined": 1, "file_missing": 3}
    assert set(replace(snapshot, table=table_of([])).counts().values()) == {0}


def test_an_id_stays_the_same_in_every_version_of_the_program() -> None:
    # Stores and runs have ids of snapshots: no change of the code may change the id of a content.
    record = ItemRecord("a", "a.mp4", "video", "c0ffee", 9, 1, "shard-0.arrow", 0, 2)
    shards = {"shard-0.arrow": ShardFile("shard-0.arrow", "beef", 100, 1)}
    fingerprint = Fingerprint(
        *("net", "pooled", "0", "none", "float32", "uniform:2", 8, (3,), "float32", "arrow")
    )
    small = Snapshot(fingerprint, shards, table_of([record, LOST]))
    assert small.id() == "80bb837ee49ec8581cdee6960c0e21e8"
    large = (replace(record, key=str(n), row=n) for n in range(20_001))
    assert replace(small, table=table_of(large)).id() == "a4fe38870485f9633c8896675c995de1"


def test_the_failures_of_a_call_that_stopped_are_kept_until_one_finishes(tmp_path: Path) -> None:
    store, failures = as_path(tmp_path), make_snapshot(tmp_path, "ab")
    assert read_stopped(store) is None
    write_stopped(store, failures)
    assert read_stopped(store) == failures
    assert current_snapshot(store) is None
    for _ in range(2):
        forget_stopped(store)
        assert read_stopped(store) is None


@pytest.mark.parametrize("format", ["arrow", "webdataset"])
def test_features_are_read_by_key(format: Format, tmp_path: Path) -> None:
    publish(as_path(tmp_path), make_snapshot(tmp_path, "ab", format))
    store = FeatureStore(tmp_path)
    for key in "ba":
        assert key in store and np.array_equal(store.features(key), values_of(key))
    assert "lost" not in store and store.record("lost") == LOST
    assert "never" not in store and store.record("never") is None
    for key in ("lost", "never"):
        with pytest.raises(KeyError, match=key):
            store.features(key)


def test_features_are_read_from_each_of_several_shards(tmp_path: Path) -> None:
    one, other = make_snapshot(tmp_path, "ab"), make_snapshot(tmp_path, "cd")
    records = [record for part in (one, other) for record in part.records() if record.is_stored]
    publish(
        as_path(tmp_path),
        replace(one, shards=one.shards | other.shards, table=table_of([*records, LOST])),
    )
    store = FeatureStore(tmp_path)
    for key in "dacb":
        assert key in store and store.num_frames(key) == 2
        assert np.array_equal(store.features(key), values_of(key))


def test_a_pickled_store_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(as_path(tmp_path / "store"), make_snapshot(tmp_path / "store", "ab"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = FeatureStore("store")
    # As a pickled copy is made.
    copied = copy.deepcopy(store)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert copied.num_frames("a") == len(copied.features("a"))


def test_an_id_depends_on_content_and_not_on_times_or_paths(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path / "here", "ab")
    first, second, lost = snapshot.records()
    moved = replace(first, mtime_ns=77), second, replace(lost, message="/elsewhere: gone")
    assert replace(snapshot, table=table_of(moved)).id() == snapshot.id()
    assert make_snapshot(tmp_path / "there", "ab").id() == snapshot.id()
    for changed in (
        (replace(first, sha256="other"), second, lost),
        (first, second, replace(lost, error="empty")),
        (replace(first, degraded="cut short"), second, lost),
        (second, first, lost),
        (first, second),
    ):
        assert replace(snapshot, table=table_of(changed)).id() != snapshot.id()


def test_the_pointer_moves_on_and_an_open_reader_stays(tmp_path: Path) -> None:
    publish(as_path(tmp_path), make_snapshot(tmp_path, "ab"))
    reader = FeatureStore(tmp_path)
    publish(as_path(tmp_path), make_snapshot(tmp_path, "bc"))
    assert "a" in reader and np.array_equal(reader.features("a"), values_of("a"))
    assert "a" not in FeatureStore(tmp_path) and "c" in FeatureStore(tmp_path)


@pytest.mark.parametrize("file", ["snapshot", "pointer"])
def test_who_dies_before_the_pointer_moved_leaves_the_old_snapshot(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish(as_path(tmp_path), make_snapshot(tmp_path, "ab"))
    new = make_snapshot(tmp_path, "bc")
    calls = iter(range(9))
    # The first file forced to the disk is the snapshot, then its folder; the third the pointer.
    dies_at = {"snapshot": 0, "pointer": 2}[file]

    def die(_: int) -> None:
        if next(calls) == dies_at:
            raise KeyboardInterrupt("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(intertitle.pipeline.storage.paths.os, "fsync", die)
        with pytest.raises(KeyboardInterrupt, match="power cut"):
            publish(as_path(tmp_path), new)
    assert FeatureStore(tmp_path).snapshot_id == old
    assert publish(as_path(tmp_path), new) == FeatureStore(tmp_path).snapshot_id == new.id()


def test_the_lease_is_looked_at_after_the_snapshot_is_written_and_before_the_pointer_moves(
    tmp_path: Path,
) -> None:
    old = publish(as_path(tmp_path), make_snapshot(tmp_path, "ab"))
    new = make_snapshot(tmp_path, "bc")

    def is_lost() -> None:
        assert (tmp_path / "snapshots" / f"{new.id()}.parquet").exists()
        assert FeatureStore(tmp_path).snapshot_id == old
        raise JobError("another process took this store over")

    with pytest.raises(JobError, match="took this store over"):
        publish(as_path(tmp_path), new, is_lost)
    assert FeatureStore(tmp_path).snapshot_id == old


def test_files_that_no_snapshot_names_are_not_read(tmp_path: Path) -> None:
    name = publish(as_path(tmp_path), make_snapshot(tmp_path, "ab"))
    make_snapshot(tmp_path, "cd")
    (tmp_path / "shards" / "shard-00001.attempt").write_bytes(b"half a sh")
    (tmp_path / "snapshots" / "newer.parquet").write_bytes(b"half a sn")
    store = FeatureStore(tmp_path)
    assert store.snapshot_id == name and "a" in store and "c" not in store


@pytest.mark.parametrize("format", ["arrow", "webdataset"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: flip(data, 0), "checksum differs"),
        (lambda data: flip(data, len(data) // 2), "checksum differs"),
        (lambda data: data[:-100], "checksum differs"),
        (lambda data: b"", "checksum differs"),
        (None, "it is missing"),
    ],
    ids=["first bit flipped", "middle bit flipped", "cut short", "emptied", "deleted"],
)
def test_a_damaged_shard_is_refused_by_name(
    damage: object, message: str, format: Format, tmp_path: Path
) -> None:
    publish(as_path(tmp_path), make_snapshot(tmp_path, "ab", format))
    path = only_shard(tmp_path)
    path.write_bytes(damage(path.read_bytes())) if callable(damage) else path.unlink()
    with pytest.raises(UserError, match=message) as refused:
        FeatureStore(tmp_path).features("a")
    assert str(path) in str(refused.value)


def test_a_row_that_holds_another_item_is_refused(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, "ab")
    first, second, lost = snapshot.records()
    publish(
        as_path(tmp_path), replace(snapshot, table=table_of([replace(first, row=1), second, lost]))
    )
    with pytest.raises(UserError, match=r"row 1 holds 'b', expected 'a'"):
        FeatureStore(tmp_path).features("a")


def test_a_folder_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    make_snapshot(tmp_path, "ab")
    with pytest.raises(UserError, match="not a feature store, or one that was never finished"):
        FeatureStore(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "deleted"])
def test_a_damaged_snapshot_is_refused(damage: str, tmp_path: Path) -> None:
    file = (
        tmp_path
        / "snapshots"
        / f"{publish(as_path(tmp_path), make_snapshot(tmp_path, 'ab'))}.parquet"
    )
    file.write_bytes(file.read_bytes()[:100]) if damage == "cut" else file.unlink()
    with pytest.raises(UserError, match=r"no snapshot|not a readable snapshot"):
        FeatureStore(tmp_path)


def test_a_snapshot_whose_rows_were_changed_is_refused_by_its_id(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, "ab")
    name = publish(as_path(tmp_path), snapshot)
    file = tmp_path / "snapshots" / f"{name}.parquet"
    write_snapshot(as_path(file), replace(snapshot, table=snapshot.table.slice(1)))
    for wanted in (name, None):
        with pytest.raises(UserError, match="damaged: what it holds"):
            FeatureStore(tmp_path, wanted)


@given(st.lists(st.text(), unique=True, max_size=50), st.text())
def test_an_index_finds_each_key_and_no_other(keys: list[str], other: str) -> None:
    index = KeyIndex(pa.chunked_array([keys], pa.string()))
    assert [index.find(key) for key in keys] == list(range(len(keys)))
    assert other in keys or index.find(other) is None


def test_an_index_finds_each_of_many_keys() -> None:
    keys = [f"key {n}" for n in range(25_000)]
    index = KeyIndex(pa.chunked_array([keys[:7], keys[7:]], pa.string()))
    assert [index.find(key) for key in keys] == list(range(len(keys)))


def test_an_index_tells_keys_of_one_hash_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        intertitle.pipeline.feature_store.store, "hash", lambda key: len(key), raising=False
    )
    index = KeyIndex(pa.chunked_array([["aa", "b", "cc", "d"]]))
    assert [index.find(key) for key in ("cc", "d", "aa", "b")] == [2, 3, 0, 1]
    assert index.find("xx") is None and index.find("xxx") is None
