"""What a store lacks: kept records, and shards to be made."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import ItemFile, hash_item_file
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.feature_store.snapshot import load_snapshot, table_of
from intertitle.pipeline.precompute import acceptance, item_records
from intertitle.pipeline.precompute import plan as plan_module
from intertitle.pipeline.precompute.acceptance import accept, accepted_before, merge
from intertitle.pipeline.precompute.plan import Plan, make_plan, present_shards
from intertitle.pipeline.precompute.work import Rejection, decode_chunk, rejected, write_features
from intertitle.pipeline.storage.paths import as_path
from tests.pipeline.precompute.planning import (
    MAKE,
    SPEC,
    all_rejected,
    finish,
    make_corpus,
    planned,
    written,
)


@pytest.fixture
def store(tmp_path: Path) -> UPath:
    (tmp_path / "store" / "shards").mkdir(parents=True)
    return as_path(tmp_path / "store")


def keys(plan: Plan) -> set[str]:
    """Of the records that are kept."""
    return set(plan.valid_records["key"].to_pylist())


def test_a_new_store_lacks_everything_in_the_corpus_order(tmp_path: Path, store: UPath) -> None:
    plan = make_plan(make_corpus(tmp_path, "bacD"), store, None, MAKE, 3, Limits())
    assert planned(plan) == ["bac", "D"] and not keys(plan)
    assert [shard.number for shard in plan.shards()] == [0, 1]


def test_only_what_is_new_or_changed_is_planned_in_shards_of_new_numbers(
    tmp_path: Path, store: UPath
) -> None:
    before = finish(
        make_plan(make_corpus(tmp_path, "abcdE"), store, None, MAKE, 3, Limits()), store
    )
    again = make_plan(make_corpus(tmp_path, "abcdE"), store, before, MAKE, 3, Limits())
    assert not planned(again) and keys(again) == set("abcdE")
    assert merge(again, before, []).id() == before.id()

    (tmp_path / "c.png").write_text("content of C")  # same size
    os.utime(tmp_path / "d.png", ns=(1, 1))  # same content
    write_corpus(
        tmp_path,
        [
            *(Item(key, f"{key}.png", "image") for key in "fcdE"),
            Item("a", "a.png", "image", 1.0, 2.0),
            Item("b", "f.png", "image"),
        ],
        [],
    )
    (tmp_path / "f.png").write_text("new")
    plan = make_plan(Corpus(tmp_path), store, before, MAKE, 3, Limits())
    assert planned(plan) == ["fca", "b"] and keys(plan) == set("dE")
    assert [shard.number for shard in plan.shards()] == [2, 3]


def test_features_follow_a_file_that_moves_but_not_one_that_is_seen_otherwise(
    tmp_path: Path, store: UPath
) -> None:
    before = finish(make_plan(make_corpus(tmp_path, "ab"), store, None, MAKE, 3, Limits()), store)
    (tmp_path / "a.png").rename(tmp_path / "moved.png")
    write_corpus(tmp_path, [Item("a", "moved.png", "image"), Item("b", "b.png", "video")], [])
    plan = make_plan(Corpus(tmp_path), store, before, MAKE, 3, Limits())
    assert planned(plan) == ["b"]
    (kept,) = plan.valid_records.to_pylist()
    assert kept["source"] == "moved.png" and kept["shard"] == next(before.records()).shard


@pytest.mark.parametrize(
    ("error", "retry_failed"), [("unavailable", False), ("killed", False), ("crashed", True)]
)
def test_a_failure_that_was_not_the_items_is_tried_again_and_any_other_if_asked(
    error: str, retry_failed: bool, tmp_path: Path, store: UPath
) -> None:
    corpus = make_corpus(tmp_path, "ab")
    before = all_rejected(corpus, store, error)
    again = make_plan(corpus, store, before, MAKE, 3, Limits(), retry_failed)
    assert planned(again) == ["ab"]
    assert keys(make_plan(corpus, store, before, MAKE, 3, Limits())) == (
        set("ab") if retry_failed else set()
    )


def test_an_item_whose_file_appears_is_tried_again_and_one_whose_file_goes_too(
    tmp_path: Path, store: UPath
) -> None:
    before = finish(make_plan(make_corpus(tmp_path, "aBc"), store, None, MAKE, 3, Limits()), store)
    (tmp_path / "B.png").write_text("there at last")
    (tmp_path / "c.png").unlink()
    plan = make_plan(Corpus(tmp_path), store, before, MAKE, 3, Limits())
    assert planned(plan) == ["B"]
    after = finish(plan, store, before)
    assert [record.is_stored for record in after.records()] == [True, True, True]
    # The features of the last stay, and it is marked, until its file is back.
    assert [record.file_missing for record in after.records()] == [False, False, True]
    assert after.counts()["file_missing"] == 1
    assert load_snapshot(written(after, store)) == after
    (tmp_path / "c.png").write_text("content of c")
    back = make_plan(Corpus(tmp_path), store, after, MAKE, 3, Limits())
    assert planned(back) == []
    assert merge(back, after, []).counts()["file_missing"] == 0


def test_a_place_that_vanished_ends_the_call(tmp_path: Path, store: UPath) -> None:
    corpus = make_corpus(tmp_path, "abc")
    before = finish(make_plan(corpus, store, None, MAKE, 3, Limits()), store)
    for name in "ab":
        (tmp_path / f"{name}.png").rename(tmp_path / f"other {name}.png")
    with pytest.raises(UserError, match=r"files of 2 of 3 stored items can't be found.* a\.png"):
        make_plan(corpus, store, before, MAKE, 3, Limits())
    # One of three may go by itself.
    (tmp_path / "other a.png").rename(tmp_path / "a.png")
    plan = make_plan(corpus, store, before, MAKE, 3, Limits())
    assert planned(plan) == [] and keys(plan) == set("abc")


@pytest.mark.parametrize("where", ["file_stat", "hash_item_file"])
def test_features_stay_while_a_file_cannot_be_looked_at(
    where: str, tmp_path: Path, store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path, "abc")
    before = finish(make_plan(corpus, store, None, MAKE, 3, Limits()), store)
    # Touched, so that it would be hashed again.
    os.utime(tmp_path / "b.png", ns=(1, 1))
    real = getattr(item_records, where)

    def fail(source: ItemFile) -> object:
        if source.item.key == "b":
            raise DecodeError("unavailable", "Stale file handle")
        return real(source)

    monkeypatch.setattr(item_records, where, fail)
    plan = make_plan(corpus, store, before, MAKE, 3, Limits())
    assert planned(plan) == []
    assert plan.valid_records["file_missing"].to_pylist() == [False, True, False]


@pytest.mark.parametrize("seconds", [60.0, -1.0], ids=["at the end", "before the others"])
def test_most_files_that_cannot_be_looked_at_end_the_call_for_another_time(
    seconds: float, tmp_path: Path, store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys_of_all = "abcdefghijklmnopqrstuvwxyz"
    corpus = make_corpus(tmp_path, keys_of_all)
    before = finish(make_plan(corpus, store, None, MAKE, 3, Limits()), store)
    real, looked_at = item_records.file_stat, []

    def fail(source: ItemFile) -> object:
        looked_at.append(source.item.key)
        if source.item.key == "z":
            return real(source)
        raise DecodeError("unavailable", "a.png: Stale file handle")

    monkeypatch.setattr(item_records, "file_stat", fail)
    monkeypatch.setattr(plan_module, "_OUTAGE_S", seconds)
    with pytest.raises(JobError, match=r"most stored items can't be checked now, as a\.png: Stale"):
        make_plan(corpus, store, before, MAKE, 3, Limits())
    assert (len(looked_at) == len(keys_of_all)) == (seconds > 0)


def test_features_stay_while_a_server_without_sizes_refuses_a_file(
    tmp_path: Path, store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path, "abc")
    before = finish(make_plan(corpus, store, None, MAKE, 3, Limits()), store)
    stat, hashed = item_records.file_stat, item_records.hash_item_file
    refused = lambda source: source.item.key == "b"  # noqa: E731
    monkeypatch.setattr(item_records, "file_stat", lambda s: (-1, 0) if refused(s) else stat(s))
    monkeypatch.setattr(item_records, "hash_item_file", lambda s: None if refused(s) else hashed(s))
    plan = make_plan(corpus, store, before, MAKE, 3, Limits())
    assert planned(plan) == []
    assert plan.valid_records["file_missing"].to_pylist() == [False, True, False]


def test_an_unexpected_error_is_retried_only_by_changed_code(
    tmp_path: Path, store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path, "ab")
    (shard,) = make_plan(corpus, store, None, MAKE, 3, Limits()).shards()
    defect = Rejection("decode", "internal", "KeyError", "Traceback\nKeyError: 1")
    died = [rejected(source, defect, hash_item_file(source)) for source in shard.sources]
    none = np.zeros((0, *SPEC.shape), np.float32)
    ended = write_features(str(store / "shards" / "s"), "arrow", SPEC.shape, died, none)
    before = accept(shard, store, MAKE, *ended)
    assert [record.traceback for record in before.records()] == [defect.traceback] * 2
    assert planned(make_plan(corpus, store, before, MAKE, 3, Limits())) == []
    assert planned(make_plan(corpus, store, before, MAKE, 3, Limits(), True)) == ["ab"]
    assert accepted_before(shard, store, present_shards(store)) is not None
    for module in (plan_module, acceptance):
        monkeypatch.setattr(module, "made_by", lambda: {"code": "mended"})
    assert planned(make_plan(corpus, store, before, MAKE, 3, Limits())) == ["ab"]
    assert accepted_before(shard, store, present_shards(store)) is None


@pytest.mark.parametrize("loss", ["deleted", "cut"])
def test_the_items_of_a_lost_shard_are_made_again(loss: str, tmp_path: Path, store: UPath) -> None:
    before = finish(make_plan(make_corpus(tmp_path, "abCd"), store, None, MAKE, 3, Limits()), store)
    lost = store / "shards" / str(next(before.records()).shard)
    lost.unlink() if loss == "deleted" else lost.write_bytes(b"")
    plan = make_plan(Corpus(tmp_path), store, before, MAKE, 3, Limits())
    assert planned(plan) == ["ab"] and keys(plan) == set("Cd")
    assert lost.name not in finish(plan, store, before).shards


def test_a_name_too_long_for_a_disk_is_planned_and_rejected(tmp_path: Path, store: UPath) -> None:
    corpus = write_corpus(tmp_path, [Item("long", "x" * 300 + ".png", "image")], [])
    plan = make_plan(corpus, store, None, MAKE, 3, Limits())
    assert planned(plan) == ["long"]
    (shard,) = plan.shards()
    (decoded,), _ = decode_chunk(shard.sources, Uniform(1), 8, Limits())
    assert decoded.rejection is not None and decoded.rejection.error == "missing"


def test_degraded_items_are_kept_as_long_as_they_are_wanted(tmp_path: Path, store: UPath) -> None:
    corpus = make_corpus(tmp_path, "ab")
    before = finish(make_plan(corpus, store, None, MAKE, 3, Limits()), store)
    first, second = before.records()
    marked = replace(before, table=table_of([replace(first, degraded="cut short"), second]))
    strict = Limits(keep_degraded=False)
    assert planned(make_plan(corpus, store, marked, MAKE, 3, Limits())) == []
    assert planned(make_plan(corpus, store, marked, MAKE, 3, strict)) == ["a"]
    lost = replace(first, shard=None, row=None, num_frames=None, stage="decode", error="degraded")
    rejected_before = replace(before, table=table_of([lost, second]))
    assert planned(make_plan(corpus, store, rejected_before, MAKE, 3, strict)) == []
    assert planned(make_plan(corpus, store, rejected_before, MAKE, 3, Limits())) == ["a"]
