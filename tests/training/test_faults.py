"""A training that is killed, stopped, damaged or moved to other workers ends as if nothing had
happened: the same bytes, each example once an epoch, and a word to the person who started it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
import ray.train
import torch
from mlflow import MlflowClient
from ray.train.torch import TorchTrainer

from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.storage import failpoints
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.sampler import Cursor
from intertitle.training.data.vocab import Vocabs
from intertitle.training.trainer.checkpoint import Checkpoint, Checkpoints, Progress
from intertitle.training.trainer.events import (
    CheckpointFallback,
    EpochReport,
    NotKept,
    Report,
    WorkerHung,
)
from intertitle.training.trainer.workers import ray_trainer
from intertitle.training.trainer.workers.failures import Budget, Failures
from intertitle.training.trainer.workers.ray_trainer import TrainingJob
from tests.conftest import Ended
from tests.training.conftest import (
    coloured_things,
    features_of,
    fit_job,
    make_loop,
    small_recipe,
    words_of,
)
from tests.training.workers import two_workers

SETTINGS = ("training.epochs=2", "training.checkpoint_steps=5", "training.monitor=nats_per_token")


def with_training(recipe: Recipe, **changes: object) -> Recipe:
    settings = recipe.training.model_copy(update=changes)
    return recipe.model_copy(update={"training": settings})


def job_of(data: DataRef, folder: Path, workers: int, recipe: Recipe) -> TrainingJob:
    words = words_of(coloured_things(60))
    return TrainingJob("run", recipe, words.to_json(), data, folder, workers)


def tensors_of(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    groups = ("weights", "average", "best", "optimizer")
    return {f"{g}/{n}": t for g in groups for n, t in getattr(checkpoint, g).items()}


def assert_equal(one: Checkpoint, other: Checkpoint) -> None:
    """Bit for bit."""
    assert one.progress == other.progress
    tensors, others = tensors_of(one), tensors_of(other)
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, others[name]), name


def no_report(_: Report) -> None:
    pass


UNDISTURBED = """
loop = make("recipe")
loop.run()
ranks.rank or loop.checkpoint().write(out / "checkpoint")
"""


@pytest.fixture(scope="module")
def undisturbed(
    ray_cluster: None, things: DataRef, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    """Where two workers get when nothing happens, not even Ray."""
    folder, words = tmp_path_factory.mktemp("undisturbed"), words_of(coloured_things(60))
    recipe = small_recipe("s2vt", *SETTINGS).model_dump()
    with two_workers(UNDISTURBED, things, words, folder, recipe=recipe):
        pass
    return Checkpoint.read(folder / "checkpoint")


# Workers that die


HALF = "checkpoint_00000_000000010"
HALF_WRITTEN = f"write-folder@{HALF}/optimizer.safetensors=kill"


@pytest.mark.parametrize(
    ("faults", "num"),
    [
        (f"train-step@7-1=kill;{HALF_WRITTEN}", 2),
        pytest.param("train-step@7-0=term", 1, marks=pytest.mark.chaos),
    ],
)
def test_a_worker_that_dies_is_replaced_and_the_end_is_the_same(
    faults: str,
    num: int,
    undisturbed: Checkpoint,
    things: DataRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "once").mkdir()
    monkeypatch.setenv(failpoints.VARIABLE, faults)
    monkeypatch.setenv(failpoints.ONCE, str(tmp_path / "once"))
    epochs: list[int] = []

    def hear(report: Report) -> None:
        if isinstance(report, EpochReport):
            epochs.append(report.epoch)

    end = fit_job(job_of(things, tmp_path, 2, small_recipe("s2vt", *SETTINGS)), hear)
    assert len(list((tmp_path / "once").iterdir())) == num
    assert_equal(end, undisturbed)
    assert epochs == [1, 2]
    assert not list((tmp_path / "run").glob(".*.writing"))


def test_workers_that_die_as_they_start_are_started_again(
    things: DataRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    died = ray.train.ControllerError(ray.exceptions.ActorDiedError())
    causes = [died, died]
    monkeypatch.setattr(TorchTrainer, "fit", lambda self: raise_first(causes))
    job = job_of(things, tmp_path, 1, small_recipe("s2vt"))
    with pytest.raises(JobError, match="ended without a checkpoint"):
        fit_job(job, no_report)
    assert not causes
    causes = [died] * 10
    with pytest.raises(JobError, match="training failed: ActorDiedError"):
        fit_job(job, no_report)
    assert len(causes) == 10 - 1 - ray_trainer.MAX_FAILURES


def raise_first(causes: list[Exception]) -> None:
    if causes:
        raise causes.pop()


def test_failures_are_counted_since_the_last_checkpoint(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    budget = Budget(checkpoints, 3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    for step in (5, 10):
        checkpoints.save(Checkpoint(Progress(cursor=Cursor(0, step), step=step), {}))
        assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    # An older one that serves in the place of a damaged one is no progress.
    (tmp_path / "checkpoint_00000_000000010").rename(tmp_path / "damaged")
    assert not budget.spend()


def test_failures_without_a_newer_checkpoint_end_the_training(tmp_path: Path) -> None:
    watchdog = Mock()
    failures, died = Failures(Checkpoints(tmp_path), 1, watchdog), {0: RuntimeError("it\ndied")}
    failures.after_exception(None, died)
    watchdog.forget.remote.assert_called_once_with()
    with pytest.raises(JobError, match=r"^training failed: RuntimeError: died$"):
        failures.after_exception(None, died)


@pytest.mark.chaos
def test_ten_preemptions_in_one_training(
    undisturbed: Checkpoint, things: DataRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "once").mkdir()
    # One after each checkpoint has been started, which is on the disk before the next one is.
    places = [f"{step}-{step // 2 % 2}" for step in range(2, 21, 2)]
    faults = ";".join(f"train-step@{place}=kill" for place in places)
    monkeypatch.setenv(failpoints.VARIABLE, faults)
    monkeypatch.setenv(failpoints.ONCE, str(tmp_path / "once"))
    recipe = small_recipe("s2vt", *SETTINGS, "training.checkpoint_steps=2")
    end = fit_job(job_of(things, tmp_path, 2, recipe), no_report)
    assert len(list((tmp_path / "once").iterdir())) == len(places)
    assert_equal(end, undisturbed)


# Workers that hang


@pytest.mark.chaos
@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_hangs_is_named_and_the_end_is_the_same(
    rank: int,
    undisturbed: Checkpoint,
    things: DataRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "once").mkdir()
    monkeypatch.setenv(failpoints.VARIABLE, f"train-step@7-{rank}=hang")
    monkeypatch.setenv(failpoints.ONCE, str(tmp_path / "once"))
    recipe = small_recipe("s2vt", *SETTINGS, "training.step_timeout_s=20")
    reports: list[Report] = []
    end = fit_job(job_of(things, tmp_path, 2, recipe), reports.append)
    (hung,) = [report for report in reports if isinstance(report, WorkerHung)]
    assert (hung.rank, hung.step) == (rank, 8)
    assert hung.seconds > 20
    assert_equal(end, undisturbed)


# A full disk


@pytest.mark.chaos
@pytest.mark.parametrize("room", [2.5, 1.5])
def test_a_training_on_a_full_disk_says_so_and_ends_when_there_is_room(
    room: float, undisturbed: Checkpoint, things: DataRef, tmp_path: Path
) -> None:
    """On a file system with room for so many checkpoints."""
    undisturbed.write(tmp_path / "one")
    # In whole blocks: a checkpoint has several files of some bytes.
    size = sum(512 * file.stat().st_blocks for file in (tmp_path / "one").iterdir())
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(room * size)}", "tmpfs", disk], check=False
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    reports: list[Report] = []

    def hear(report: Report) -> None:
        reports.append(report)
        if isinstance(report, EpochReport) and report.epoch == 2:
            subprocess.run(["mount", "-o", f"remount,size={9 * size}", disk], check=True)

    try:
        end = fit_job(job_of(things, disk, 2, small_recipe("s2vt", *SETTINGS)), hear)
        assert_equal(end, undisturbed)
        assert not list((disk / "run").glob(".*.writing"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    not_kept = [report for report in reports if isinstance(report, NotKept)]
    assert bool(not_kept) == (room < 2)
    assert all("No space left on device" in report.reason for report in not_kept)


@pytest.mark.chaos
def test_half_a_checkpoint_is_never_read(
    undisturbed: Checkpoint, things: DataRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(things, tmp_path, 2, small_recipe("s2vt", *SETTINGS))
    with monkeypatch.context() as patch:
        patch.setattr(ray_trainer, "MAX_FAILURES", 0)
        patch.setenv(failpoints.VARIABLE, HALF_WRITTEN)
        with pytest.raises(JobError):
            fit_job(job, no_report)
    assert Checkpoints(tmp_path / "run").names() == ["checkpoint_00000_000000005"]
    unfinished = tmp_path / "run" / f".{HALF}.writing"
    assert {path.name for path in unfinished.iterdir()} >= {"progress.json", "weights.safetensors"}
    assert_equal(fit_job(job, no_report), undisturbed)
    assert not unfinished.exists()


# Checkpoints that are damaged


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flipped", "cut", "missing"])
@pytest.mark.parametrize("file", ["weights.safetensors", "progress.json", "manifest.json"])
def test_the_newest_whole_checkpoint_serves(
    damage: Callable[[Path], object], file: str, tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest_valid() == (None, ())
    for step in (5, 10, 15, 20):
        progress = Progress(cursor=Cursor(0, step), step=step)
        checkpoints.save(Checkpoint(progress, {"weight": torch.full((9,), float(step))}))
    oldest, older, newest = (f"checkpoint_00000_0000000{step}" for step in (10, 15, 20))
    assert checkpoints.names() == [newest, older, oldest]

    damage(tmp_path / newest / file)
    name, damages = checkpoints.newest_valid()
    assert name == older
    assert len(damages) == 1
    assert newest in damages[0]
    assert checkpoints.read(older).progress.step == 15
    # Told once; kept to be looked at, and not counted any more.
    assert checkpoints.newest_valid() == (older, ())
    assert (tmp_path / f"damaged_{newest}").is_dir()

    for name in (older, oldest):
        damage(tmp_path / name / file)
    with pytest.raises(UserError, match=f"no checkpoint is whole: .*{older}.*{oldest}"):
        checkpoints.newest_valid()


# The last test of this file goes the same way from the command line.
@pytest.mark.chaos
def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(
    undisturbed: Checkpoint, things: DataRef, tmp_path: Path
) -> None:
    recipe = small_recipe("s2vt", *SETTINGS)
    fit_job(job_of(things, tmp_path, 2, with_training(recipe, max_steps=7)), no_report)
    checkpoints = Checkpoints(tmp_path / "run")
    newest, older = checkpoints.names()
    flip(tmp_path / "run" / newest / "weights.safetensors")

    reports: list[Report] = []
    assert_equal(fit_job(job_of(things, tmp_path, 2, recipe), reports.append), undisturbed)
    (fell_back,) = [report for report in reports if isinstance(report, CheckpointFallback)]
    assert fell_back.used == older
    assert newest in fell_back.damages[0]

    for name in checkpoints.names():
        flip(tmp_path / "run" / name / "weights.safetensors")
    with pytest.raises(UserError, match=r"no checkpoint is whole: .*; "):
        fit_job(job_of(things, tmp_path, 2, recipe), no_report)


# Two workers become one

# One of two workers: what it learned from, step by step, beside the checkpoint of both.
WORKER = """
from intertitle.training.data.dataset import Dataset

loop = make("recipe")
rows, batch = [], Dataset.batch
Dataset.batch = lambda self, some: rows.extend(map(int, some)) or batch(self, some)
loop.run(on_checkpoint=lambda: ranks.rank or loop.checkpoint().write(out / "checkpoint"))
(out / f"rows-{ranks.rank}.json").write_text(json.dumps(rows))
"""


def test_a_training_begun_by_two_workers_and_ended_by_one_sees_each_example_once(
    things: DataRef, words: Vocabs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_dropout = ("model.dropout=0", "model.feature_dropout=0", "training.epochs=1")
    recipe = small_recipe("s2vt", *no_dropout)
    stopped = with_training(recipe, max_steps=6).model_dump()
    with two_workers(WORKER, things, words, tmp_path, recipe=stopped):
        pass
    seen: Counter[int] = Counter()
    for rank in range(2):
        seen.update(json.loads((tmp_path / f"rows-{rank}.json").read_text()))
    assert seen

    alone = make_loop(things, words, recipe)
    alone.run()

    resumed = make_loop(things, words, recipe)
    resumed.restore(Checkpoint.read(tmp_path / "checkpoint"))
    learn = resumed.train_step
    monkeypatch.setattr(
        resumed,
        "train_step",
        lambda rows, epochs: seen.update(rows.tolist()) or learn(rows, epochs),
    )
    resumed.run()
    num_rows = sum(len(shown.targets) for shown in coloured_things(60) if shown.split == "train")
    assert seen == Counter(range(num_rows))
    (figures,), (expected,) = resumed.progress.history, alone.progress.history
    assert figures == pytest.approx(expected, abs=1e-4)


def test_a_stopped_command_says_how_to_go_on_and_a_resumed_one_what_was_damaged(
    things: DataRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray_cluster: None,
    intertitle: Callable[..., Ended],
) -> None:
    program = Path(sys.executable).with_name("intertitle")
    settings = ("model.embedding_size=12", "model.hidden_size=16", "training.batch_tokens=64")
    begin = [
        *("train", "s2vt", "--corpus", things.corpus, "--features", features_of(things).path),
        *("--name", "a run", "--workers", "2", "--set", "training.epochs=100000"),
        *("--set", "training.patience=100000", "--set", "training.checkpoint_steps=5"),
        *(part for setting in settings for part in ("--set", setting)),
    ]
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 2, "GPU": 0}',
    }
    told = tmp_path / "told"
    with told.open("w") as err:
        command = subprocess.Popen([program, *begin], cwd=tmp_path, env=environment, stderr=err)
    try:
        deadline = time.monotonic() + 300
        while len(kept := list(tmp_path.glob("checkpoints/*/checkpoint_*"))) < 2:
            assert command.poll() is None, told.read_text()
            assert time.monotonic() < deadline, told.read_text()
            time.sleep(0.1)
        asked = time.monotonic()
        command.terminate()
        assert command.wait(timeout=120) == 75
    finally:
        command.kill()
    print(f"from SIGTERM to the exit: {time.monotonic() - asked:.1f} s")
    assert told.read_text().splitlines()[-1] == (
        "intertitle: stopped; to go on: intertitle train --resume 'a run'"
    )
    checkpoints = Checkpoints(kept[0].parent)
    newest, older, *_ = checkpoints.names()
    # A step of its own, if it was not by chance one of those that are kept anyway.
    step = int(newest[-9:])
    assert checkpoints.read(newest).progress.step == step
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    run = client.get_run(kept[0].parent.name)
    assert run.info.status == "KILLED"
    assert run.data.tags["error"] == "Stopped: SIGTERM"

    flip(checkpoints.folder / newest / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment["MLFLOW_TRACKING_URI"])
    resumed = intertitle("train", "--resume", "a run", "--set", f"training.max_steps={step + 1}")
    assert resumed.code == 0, resumed.err
    assert re.search(rf"^WARNING: .*{newest}.*; going on from {older}$", resumed.err, re.M)
    assert client.get_run(run.info.run_id).info.status == "FINISHED"
    (note,) = client.list_artifacts(run.info.run_id, "fell_back")
    assert note.path == f"fell_back/{older}.txt"
