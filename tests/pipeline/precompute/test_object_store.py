"""The whole road on an object store: corpus, clips and features are behind URLs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Item, write_corpus
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.gc import collect
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.importers.folder import import_folder
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.run import precompute
from intertitle.pipeline.storage.paths import as_path
from tests.conftest import Ended

pytestmark = pytest.mark.usefixtures("ray_cluster")

OPTIONS = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=4)


@pytest.fixture(autouse=True)
def quick_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else writes here."""
    monkeypatch.setattr("intertitle.pipeline.storage.lock._SETTLE_S", 0.01)


@pytest.fixture
def corpus(clips: Path, object_store: Path, tmp_path: Path) -> Corpus:
    """Six clips in a bucket, one text among them, and a clip that is not there."""
    bucket = as_path(f"s3://bucket/{tmp_path.name}")
    for item in Corpus(clips).items()[:6]:
        bucket.fs.put_file(str(clips / item.uri), (bucket / "clips" / item.key).path + ".mp4")
    (bucket / "clips" / "sub folder" / "text.mp4").write_text("not a film")
    import_folder(bucket / "clips", bucket / "listed")
    listed = Corpus(bucket / "listed").items()
    return write_corpus(
        bucket / "corpus", [*listed, Item("gone", f"{bucket}/clips/gone.mp4", "video")], []
    )


def test_features_are_those_of_local_files(
    corpus: Corpus, clip_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = corpus.path.parent / "store"
    report = precompute(corpus, place, OPTIONS)
    assert {r.key: r.error for r in report.quarantined} == {
        "sub folder/text.mp4": "unreadable",
        "gone": "missing",
    }
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store, local = FeatureStore(place), FeatureStore(clip_features)
    keys = [record.key for record in store.snapshot.records() if record.is_stored]
    assert len(keys) == report.stored == 6
    for key in keys:
        assert np.array_equal(store.features(key), local.features(key.removesuffix(".mp4")))
    # Whole shards were fetched, and are not fetched again; a damaged copy is.
    (first, *_), shards = sorted((tmp_path / "cache" / "intertitle" / "shards").iterdir()), 2
    assert len(store.snapshot.shards) == shards
    first.write_bytes(b"damaged")
    assert all(len(FeatureStore(place).features(key)) == 8 for key in keys)

    again = precompute(corpus, place, OPTIONS)
    assert (again.snapshot, again.skipped) == (report.snapshot, 8)


def test_what_changes_is_made_again_and_what_no_snapshot_names_is_collected(
    corpus: Corpus,
) -> None:
    place = corpus.path.parent / "store"
    before = precompute(corpus, place, OPTIONS)
    first, second, *_ = corpus.items()
    corpus.path.fs.copy(corpus.locate(second).path, corpus.locate(first).path)
    after = precompute(corpus, place, OPTIONS)
    assert (after.skipped, after.stored) == (7, 6) and after.snapshot != before.snapshot
    store = FeatureStore(place)
    assert np.array_equal(store.features(first.key), store.features(second.key))
    assert first.key in FeatureStore(place, before.snapshot)
    collect(place, extra_ids=(), dry_run=False)
    assert {path.name for path in (place / "snapshots").iterdir()} == {f"{after.snapshot}.parquet"}
    assert np.array_equal(FeatureStore(place).features(first.key), store.features(second.key))


def test_the_commands_take_urls(corpus: Corpus, intertitle: Callable[..., Ended]) -> None:
    place = corpus.path.parent / "store"
    ended = intertitle("precompute", corpus.path, "--out", place, "--allow-failed", 1)
    assert ended.code == 0 and f"{place}: 6 stored, 2 quarantined" in ended.out
    ended = intertitle("precompute", corpus.path, "--out", "nosuch://x/y")
    assert ended.code == 2 and "nosuch" in ended.err
    options = replace(OPTIONS, format="webdataset")
    tars = corpus.path.parent / "tars"
    precompute(corpus, tars, options)
    assert [len(FeatureStore(tars).features(item.key)) for item in corpus.items()[:6]] == [8] * 6
