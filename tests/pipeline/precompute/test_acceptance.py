"""Shards that are finished: their names, their merge, and those that an earlier call accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from upath import UPath

from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Rate
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.pipeline.feature_store.snapshot import load_snapshot
from intertitle.pipeline.precompute import acceptance
from intertitle.pipeline.precompute.acceptance import accept, accepted_before, merge
from intertitle.pipeline.precompute.plan import make_plan, present_shards
from intertitle.pipeline.precompute.versions import made_by
from intertitle.pipeline.storage.paths import as_path
from tests.pipeline.precompute.planning import MAKE, SPEC, attempt, finish, make_corpus, written


@pytest.fixture
def store(tmp_path: Path) -> UPath:
    (tmp_path / "store" / "shards").mkdir(parents=True)
    return as_path(tmp_path / "store")


def test_a_finished_shard_is_named_after_its_content(tmp_path: Path, store: UPath) -> None:
    plan = make_plan(make_corpus(tmp_path, "aBc"), store, None, MAKE, 3, Limits())
    snapshot = finish(plan, store)
    ((name, shard),) = snapshot.shards.items()
    assert name == f"shard-00000-{shard.sha256[:12]}.arrow"
    assert [file.name for file in (store / "shards").iterdir()] == [name]
    assert [(r.key, r.shard, r.row) for r in snapshot.records()] == [
        ("a", name, 0),
        ("B", None, None),
        ("c", name, 1),
    ]


def test_a_shard_whose_items_were_all_rejected_leaves_no_file(tmp_path: Path, store: UPath) -> None:
    snapshot = finish(make_plan(make_corpus(tmp_path, "AB"), store, None, MAKE, 3, Limits()), store)
    assert not snapshot.shards and not list((store / "shards").iterdir())
    assert snapshot.counts() == {"stored": 0, "degraded": 0, "quarantined": 2, "file_missing": 0}


def test_a_snapshot_says_which_versions_made_it_and_equal_features_are_one_snapshot(
    tmp_path: Path, store: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path, "a")
    before = finish(make_plan(corpus, store, None, MAKE, 3, Limits()), store)
    assert before.versions == (made_by(),)
    monkeypatch.setattr(acceptance, "made_by", lambda: {"pillow": "0.1"})
    plan = make_plan(make_corpus(tmp_path, "ab"), store, before, MAKE, 3, Limits())
    after = finish(plan, store, before)
    assert after.versions == (made_by(), {"pillow": "0.1"})
    assert load_snapshot(written(after, store)).versions == after.versions
    assert replace(after, versions=()).id() == after.id()
    # What is only looked at is made by nobody.
    assert merge(make_plan(corpus, store, after, MAKE, 3, Limits()), after, []) == after


def test_an_accepted_shard_is_found_until_its_make_or_its_files_change(
    tmp_path: Path, store: UPath
) -> None:
    corpus = make_corpus(tmp_path, "ab")
    (shard,) = make_plan(corpus, store, None, MAKE, 3, Limits()).shards()
    assert accepted_before(shard, store, present_shards(store)) is None
    accepted = accept(shard, store, MAKE, *attempt(shard.sources, store))
    (same,) = make_plan(corpus, store, None, MAKE, 3, Limits()).shards()
    assert accepted_before(same, store, present_shards(store)) == accepted

    other_make = make_fingerprint(SPEC, Rate(1), "arrow", "float32")
    (other,) = make_plan(corpus, store, None, other_make, 3, Limits()).shards()
    assert accepted_before(other, store, present_shards(store)) is None
    (tmp_path / "a.png").write_text("another content")
    (changed,) = make_plan(corpus, store, None, MAKE, 3, Limits()).shards()
    assert accepted_before(changed, store, present_shards(store)) is None
    (tmp_path / "a.png").write_text("content of a")
    assert accepted_before(changed, store, present_shards(store)) is not None
    (store / "shards" / next(iter(accepted.shards))).unlink()
    assert accepted_before(changed, store, present_shards(store)) is None


def test_limits_of_another_call_make_other_shards(tmp_path: Path, store: UPath) -> None:
    corpus = make_corpus(tmp_path, "aB")
    (shard,) = make_plan(corpus, store, None, MAKE, 3, Limits()).shards()
    accept(shard, store, MAKE, *attempt(shard.sources, store))
    (longer,) = make_plan(corpus, store, None, MAKE, 3, Limits(seconds=999)).shards()
    assert accepted_before(longer, store, present_shards(store)) is None
    # One whose items failed is made again, if that is what is asked for.
    assert accepted_before(shard, store, present_shards(store), retry_failed=True) is None
    assert accepted_before(shard, store, present_shards(store)) is not None


def test_the_code_that_decodes_is_part_of_what_made_a_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = Path.read_bytes
    before = made_by()
    monkeypatch.setattr(
        Path, "read_bytes", lambda self: b"" if self.name == "decode.py" else read(self)
    )
    made_by.cache_clear()
    assert made_by() != before
    made_by.cache_clear()
