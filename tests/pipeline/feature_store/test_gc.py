"""What goes when a store is tidied, what stays, and what a kill in between leaves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.feature_store.gc import collect, list_snapshots
from intertitle.pipeline.feature_store.pins import pinned_snapshots
from intertitle.pipeline.feature_store.shards import ItemFeatures, write_shard
from intertitle.pipeline.feature_store.snapshot import (
    ItemRecord,
    Snapshot,
    publish,
    table_of,
    write_snapshot,
)
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage.failpoints import VARIABLE
from intertitle.pipeline.storage.lock import single_writer_lock
from intertitle.pipeline.storage.paths import as_path, atomic_write
from tests.fingerprints import FINGERPRINT


def make_snapshot(store: UPath, keys: Sequence[str], scratch: Path) -> Snapshot:
    """A shard of its own for each key."""
    shards, records = {}, []
    for number, key in enumerate(keys):
        path = scratch / f"shard-{number:05d}-{key * 12}.arrow"
        path.unlink(missing_ok=True)
        rows = [ItemFeatures(key, np.zeros(2), np.zeros((2, 3), np.float32))]
        shard = write_shard(path, "arrow", rows, (3,))
        put(store, f"shards/{shard.name}", path.read_bytes())
        shards[shard.name] = shard
        records.append(ItemRecord(key, f"{key}.mp4", "video", key, 1, 1, shard.name, 0, 2))
    return Snapshot(FINGERPRINT, shards, table_of(records))


def put(store: UPath, name: str, data: bytes = b"12345") -> None:
    path = store / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def files(store: UPath) -> set[str]:
    store.fs.invalidate_cache()
    root = store.path.rstrip("/") + "/"
    return {name.removeprefix(root) for name in store.fs.find(store.path)}


def read_all(store: UPath, keys: str) -> None:
    reader = FeatureStore(store)
    for key in keys:
        assert reader.features(key).shape == (2, 3)


def test_a_copy_of_a_store_was_published_when_the_store_was(tmp_path: Path) -> None:
    store, copy = as_path(tmp_path / "store"), tmp_path / "copy"
    publish(store, make_snapshot(store, "ab", tmp_path))
    shutil.copytree(str(store), copy)
    for file in copy.rglob("*"):
        os.utime(file, (0, 0))
    assert list_snapshots(as_path(copy)) == list_snapshots(store)


@pytest.fixture(params=["folder", "object store"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UPath:
    if request.param == "folder":
        return as_path(tmp_path / "store")
    # Nobody else comes for the lease.
    monkeypatch.setattr("intertitle.pipeline.storage.lock._SETTLE_S", 0.01)
    request.getfixturevalue("object_store")
    return as_path(f"s3://bucket/{tmp_path.name}")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def untidy(store: UPath, scratch: Path) -> tuple[list[str], set[str]]:
    """A store with three snapshots and all kinds of leftovers.

    Returns:
        The snapshots' ids, and the files of the current one.
    """
    ids = []
    note = make_snapshot(store, "e", scratch)
    write_snapshot(store / "pending" / "old.parquet", note)
    for keys in ("ab", "ac", "cd"):
        ids.append(publish(store, make_snapshot(store, keys, scratch)))
    put(store, "shards/shard-00009.0123456789abcdef")
    put(store, "snapshots/.x.parquet.17.writing")
    put(store, ".CURRENT.17.writing")
    put(store, "notes of a person.txt")
    stays = {
        "CURRENT",
        "notes of a person.txt",
        f"snapshots/{ids[-1]}.parquet",
        "shards/shard-00000-cccccccccccc.arrow",
        "shards/shard-00001-dddddddddddd.arrow",
    }
    return ids, stays


def test_a_copy_of_a_store_keeps_the_notes_that_the_original_keeps(tmp_path: Path) -> None:
    original = as_path(tmp_path / "store")
    (tmp_path / "scratch").mkdir()
    untidy(original, tmp_path / "scratch")
    note = make_snapshot(original, "n", tmp_path / "scratch")
    write_snapshot(original / "pending" / "new.parquet", note)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "store", copy)
    # The copy wrote the current snapshot last.
    for file in copy.glob("pending/*"):
        os.utime(file, (0, 0))
    collect(as_path(copy))
    assert [file.name for file in copy.glob("pending/*")] == ["new.parquet"]
    assert note.shards.keys() <= {file.name for file in copy.glob("shards/*")}


def test_what_the_current_snapshot_does_not_name_goes(store: UPath, scratch: Path) -> None:
    ids, stays = untidy(store, scratch)
    before = files(store)
    sizes = {name: (store / name).stat().st_size for name in before}

    planned = collect(store, dry_run=True)
    assert files(store) - {"LOCK"} == before and planned.dry_run

    seen = []
    collected = collect(store, on_progress=lambda done, total: seen.append((done, total)))
    assert files(store) - {"LOCK"} == stays
    assert (collected.current, collected.retained_ids) == (ids[-1], (ids[-1],))
    assert collected == replace(planned, dry_run=False)
    assert {kind: pile.num_files for kind, pile in collected.removed.items()} == {
        "snapshots": 2,
        "notes": 1,
        # a, b, the other c, e
        "shards": 4,
        "attempts": 1,
        "unfinished": 2,
    }
    gone = before - stays
    assert sum(pile.num_bytes for pile in collected.removed.values()) == sum(map(sizes.get, gone))
    assert seen[-1] == (len(gone), len(gone))
    read_all(store, "cd")
    assert [(found.id, found.num_items) for found in list_snapshots(store)] == [(ids[-1], 2)]
    assert sum(pile.num_files for pile in collect(store).removed.values()) == 0


def test_a_snapshot_that_is_kept_stays_with_its_shards(store: UPath, scratch: Path) -> None:
    ids, _ = untidy(store, scratch)
    collected = collect(store, extra_ids=[ids[0], ids[0]])
    assert collected.retained_ids == (ids[-1], ids[0])
    assert {found.id for found in list_snapshots(store) if found.is_readable} == {ids[0], ids[-1]}
    assert FeatureStore(store, ids[0]).features("b").shape == (2, 3)
    read_all(store, "cd")


def test_a_pinned_snapshot_stays_until_its_pin_goes(store: UPath, scratch: Path) -> None:
    ids, _ = untidy(store, scratch)
    for name, snapshot in (("run-1", ids[0]), ("run-2", "gone long ago")):
        atomic_write(store / "pins" / name, lambda file, s=snapshot: file.write(f"{s}\n".encode()))
    collected = collect(store)
    assert (collected.retained_ids, collected.pinned) == ((ids[-1], ids[0]), {"run-1": ids[0]})
    assert FeatureStore(store, ids[0]).features("b").shape == (2, 3)

    with pytest.raises(UserError, match="has no pin 'run-3', allowed: run-1, run-2"):
        collect(store, release=["run-3"])
    assert collect(store, release=["run-1"], dry_run=True).removed["snapshots"].num_files == 1
    assert (store / "pins" / "run-1").exists()
    assert collect(store, release=["run-1"]).retained_ids == (ids[-1],)
    assert pinned_snapshots(store) == {"run-2": "gone long ago"}


def test_the_work_of_a_call_that_died_stays(store: UPath, scratch: Path) -> None:
    _, stays = untidy(store, scratch)
    note = make_snapshot(store, "f", scratch)
    write_snapshot(store / "pending" / "new.parquet", note)
    collect(store)
    kept = {"pending/new.parquet", "shards/shard-00000-ffffffffffff.arrow"}
    assert files(store) - {"LOCK"} == stays | kept


def test_an_unknown_snapshot_to_be_kept_is_refused(tmp_path: Path, scratch: Path) -> None:
    store = as_path(tmp_path / "store")
    ids, _ = untidy(store, scratch)
    before = files(store)
    with pytest.raises(UserError, match="has no snapshot 'other', allowed: ") as refused:
        collect(store, extra_ids=["other"])
    assert all(name in str(refused.value) for name in ids)
    assert files(store) - {"LOCK"} == before


@pytest.mark.parametrize("damage", ["cut", "another", "gone", "shard gone", "shard cut"])
def test_from_a_damaged_store_nothing_is_removed(
    damage: str, tmp_path: Path, scratch: Path
) -> None:
    store = tmp_path / "store"
    ids, _ = untidy(as_path(store), scratch)
    current = store / "snapshots" / f"{ids[-1]}.parquet"
    shard = store / "shards" / "shard-00001-dddddddddddd.arrow"
    if damage == "cut":
        current.write_bytes(current.read_bytes()[:100])
    elif damage == "another":
        current.write_bytes((store / "snapshots" / f"{ids[0]}.parquet").read_bytes())
    elif damage == "shard cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        (current if damage == "gone" else shard).unlink()
    before = files(as_path(store))
    with pytest.raises(UserError, match=r"damaged|not a readable snapshot|has no snapshot"):
        collect(as_path(store))
    assert files(as_path(store)) - {"LOCK"} == before


def test_what_is_no_store_is_refused_and_not_made_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a feature store"):
        collect(as_path(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_a_store_that_is_being_written_is_left_alone(tmp_path: Path, scratch: Path) -> None:
    store = as_path(tmp_path / "store")
    untidy(store, scratch)
    before = files(store)
    with single_writer_lock(store), pytest.raises(UserError, match="is writing to this store"):
        collect(store)
    assert files(store) - {"LOCK"} == before


@pytest.mark.parametrize(("lost_at", "num_removed"), [(1, 1), (2, 3), (4, 5)])
def test_who_loses_the_lease_meanwhile_removes_nothing_more(
    lost_at: int,
    num_removed: int,
    object_store: Path,
    tmp_path: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lease is looked at every other file here."""
    monkeypatch.setattr("intertitle.pipeline.storage.lock._SETTLE_S", 0.01)
    monkeypatch.setattr("intertitle.pipeline.feature_store.gc._CHECK_EVERY", 2)
    store = as_path(f"s3://bucket/{tmp_path.name}")
    publish(store, make_snapshot(store, "ab", scratch))
    for n in range(8):
        put(store, f"shards/shard-0000{n}.0123456789abcdef")

    def lose(done: int, total: int) -> None:
        if done == lost_at:
            (store / "LOCK").write_text('{"owner": "another"}')

    with pytest.raises(JobError, match="another process took this store over meanwhile"):
        collect(store, on_progress=lose)
    left = [name for name in files(store) if name.endswith("abcdef")]
    assert len(left) == 8 - num_removed
    read_all(store, "ab")


def test_who_loses_the_lease_between_two_kinds_removes_none_of_the_next(
    object_store: Path, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intertitle.pipeline.storage.lock._SETTLE_S", 0.01)
    store = as_path(f"s3://bucket/{tmp_path.name}")
    ids = [publish(store, make_snapshot(store, keys, scratch)) for keys in ("ab", "cd")]

    def lose(done: int, total: int) -> None:
        (store / "LOCK").write_text('{"owner": "another"}')

    with pytest.raises(JobError, match="another process took this store over meanwhile"):
        collect(store, on_progress=lose)
    assert f"snapshots/{ids[0]}.parquet" not in files(store)
    assert len([name for name in files(store) if name.startswith("shards/")]) == 4


def test_snapshots_are_gone_from_the_disk_before_their_shards_go(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = as_path(tmp_path / "store")
    untidy(store, scratch)
    done: list[str] = []
    remove = store.fs.rm_file

    def note(path: str) -> None:
        done.append(Path(path).parent.name)
        remove(path)

    monkeypatch.setattr(store.fs, "rm_file", note)
    monkeypatch.setattr(
        "intertitle.pipeline.feature_store.gc.sync_path", lambda folder: done.append("sync")
    )
    collect(store)
    assert done[:4] == ["snapshots", "snapshots", "sync", "pending"]
    assert done.count("sync") == 1 and done.count("shards") == 5


def test_an_old_snapshot_without_its_shards_is_not_readable(tmp_path: Path, scratch: Path) -> None:
    store = as_path(tmp_path / "store")
    ids, _ = untidy(store, scratch)
    (tmp_path / "store" / "shards" / "shard-00001-bbbbbbbbbbbb.arrow").unlink()
    put(store, "snapshots/damaged.parquet")
    found = {s.id: (s.is_readable, s.num_items) for s in list_snapshots(store)}
    assert found[ids[0]] == (False, 2)
    assert found[ids[2]] == (True, 2)
    assert found["damaged"] == (False, None)


def test_a_kill_in_between_leaves_no_snapshot_without_its_shards(
    tmp_path: Path, scratch: Path
) -> None:
    store = as_path(tmp_path / "store")
    _, stays = untidy(store, scratch)
    victims = sorted(files(store) - stays)
    code = (
        "import sys; from intertitle.pipeline.feature_store.gc import collect; "
        "from intertitle.pipeline.storage.paths import as_path; "
        "collect(as_path(sys.argv[1]))"
    )
    # Every call removes something, until it comes to the file at which it is killed.
    for victim in ("snapshots", "shards/shard-00001-b"):
        name = next(Path(v).name for v in victims if v.startswith(victim) and "writing" not in v)
        ended = subprocess.run(
            [sys.executable, "-c", code, str(store)],
            env={**os.environ, VARIABLE: f"gc@{name}=kill"},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
        )
        assert ended.returncode == -9, ended.stderr
        left = files(store)
        assert any(Path(file).name == name for file in left)
        read_all(store, "cd")
        assert all(found.is_readable for found in list_snapshots(store))
    collect(store)
    assert files(store) - {"LOCK"} == stays
