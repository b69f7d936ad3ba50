"""The loop on Ray Train."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from intertitle.pipeline.errors import JobError, UserError
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.dataset import open_splits
from intertitle.training.data.vocab import Vocabs
from intertitle.training.models.build import task_of
from intertitle.training.runs.train import resume, train
from intertitle.training.tracking.store.client import RunRef, download, resolve_run
from intertitle.training.trainer.checkpoint import Checkpoint, Checkpoints, NoSpaceError
from intertitle.training.trainer.events import EpochReport, Report
from intertitle.training.trainer.workers import ray_trainer
from intertitle.training.trainer.workers.ray_trainer import TrainingJob, fit
from intertitle.training.trainer.workers.watchdog import Pulse
from tests.training.conftest import (
    Trained,
    coloured_things,
    features_of,
    fit_job,
    make_loop,
    small_recipe,
    write_data,
)
from tests.training.in_process import in_process


def run_and_metrics(run: RunRef) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(run.tracking_uri).get_run(run.run_id)


def weights_of(run: RunRef) -> bytes:
    return (download(run, "model") / "model.safetensors").read_bytes()


def test_a_run_that_stopped_and_went_on_equals_one_that_never_did(
    trained: Trained, things: DataRef
) -> None:
    """Without Ray until it stopped and with Ray from there, as one without Ray alone."""
    settings = trained.recipe.training.model_copy(update={"max_steps": 13})
    with in_process():
        part = train(
            trained.recipe.model_copy(update={"training": settings}),
            Path(things.corpus),
            Path(features_of(things).path),
            workers=1,
            tracking_uri=trained.tracking_uri,
            checkpoints=trained.checkpoints,
            name="in two parts",
        )
    assert part.num_epochs == 1
    stopped = weights_of(part.run)
    whole = resume("in two parts", tracking_uri=trained.tracking_uri, changes={"max_steps": None})
    assert whole.run == part.run
    assert weights_of(whole.run) == weights_of(trained.result.run) != stopped
    assert whole.evaluation == trained.result.evaluation
    assert (whole.num_epochs, whole.best_epoch) == (2, trained.result.best_epoch)
    one, other = (run_and_metrics(r) for r in (whole.run, trained.result.run))
    assert one.info.status == "FINISHED"
    epochs = {name for name in other.data.metrics if name.startswith(("train/", "val/"))}
    assert {n: one.data.metrics[n] for n in epochs} == {n: other.data.metrics[n] for n in epochs}


def test_two_workers_train_as_the_loop_does_alone_with_the_texts_of_the_driver(
    ray_cluster: None, words: Vocabs, tmp_path: Path
) -> None:
    """They neither open the corpus nor hash it, so it may be gone by then."""
    data = write_data(tmp_path, coloured_things(60))
    recipe = small_recipe("s2vt", "model.dropout=0", "model.feature_dropout=0", "training.epochs=1")
    alone = make_loop(data, words, recipe)
    alone.run()
    expected = alone.checkpoint()

    splits = open_splits(Data(data), recipe, task_of(recipe.model), words)
    shutil.rmtree(data.corpus)
    reports: list[Report] = []
    job = TrainingJob("two", recipe, words.to_json(), data, tmp_path / "kept", 2)
    checkpoint = fit(job, splits, reports.append)
    assert checkpoint.progress.step == expected.progress.step
    for name, weights in expected.weights.items():
        assert torch.allclose(checkpoint.weights[name], weights, atol=1e-5), name
    (epoch,) = [report for report in reports if isinstance(report, EpochReport)]
    figures = dict(expected.progress.history[0])
    assert {"epoch": 1.0, **epoch.figures} == pytest.approx(figures, abs=1e-4)


def test_more_workers_than_cores_are_refused_with_how_many_there_may_be(
    trained: Trained, things: DataRef
) -> None:
    with pytest.raises(UserError, match="workers: 3, allowed: at most 2"):
        train(
            trained.recipe,
            Path(things.corpus),
            Path(features_of(things).path),
            workers=3,
            tracking_uri=trained.tracking_uri,
            checkpoints=trained.checkpoints,
            name="too many",
        )
    with pytest.raises(UserError, match="'too many': not found"):
        resolve_run("too many", trained.tracking_uri)


def test_a_user_error_of_a_worker_keeps_its_message(
    ray_cluster: None, words: Vocabs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_trainer, "MAX_FAILURES", 0)
    data = write_data(tmp_path, coloured_things(20))
    (shard,) = Path(features_of(data).path, "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-1])
    job = TrainingJob("damaged", small_recipe(), words.to_json(), data, tmp_path / "kept", 1)
    with pytest.raises(UserError, match=rf"{shard.name}: checksum differs"):
        fit_job(job, lambda _: None)


def test_the_last_checkpoint_waits_for_room_but_not_for_ever(
    things: DataRef, words: Vocabs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, checkpoints = make_loop(things, words, small_recipe()), Checkpoints(tmp_path)
    full = [True, True, False]

    def save(self: Checkpoints, checkpoint: Checkpoint) -> None:
        if full.pop(0):
            raise NoSpaceError("checkpoint_1: No space left on device")

    monkeypatch.setattr(Checkpoints, "save", save)
    monkeypatch.setattr(ray_trainer, "TRY_AGAIN_S", 0.0)
    pulse = Pulse()
    ray_trainer._keep_last(checkpoints, loop, pulse)
    assert not full
    # The watchdog sees that it waits.
    assert pulse.beats == 3
    full = [True] * 3
    monkeypatch.setattr(ray_trainer, "WAIT_FOR_SPACE_S", 0.0)
    with pytest.raises(JobError, match=r"the last checkpoint: .*No space.*--resume"):
        ray_trainer._keep_last(checkpoints, loop, pulse)
