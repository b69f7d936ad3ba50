"""A slot that is called again, stopped or killed: it is finished, and nothing happens twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intertitle.jobs.retraining.config import load_config
from intertitle.jobs.retraining.run_slot import PROMOTED, SlotOutcome, retrain
from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.registry import registry, retraining_runs
from intertitle.training.tracking.registry.arbiter import only_one
from intertitle.training.tracking.store.client import RunRef

CONFIG = """
model = "moods"
[data]
format = "labelled"
source = ["inbox"]
corpus = "corpus"
[train]
recipe = "sentiment"
set = [
    "model.embedding_size=16", "model.hidden_size=16", "model.dropout=0.1",
    "model.word_dropout=0", "source_tokenizer.min_count=1", "optimizer.learning_rate=1e-2",
    "optimizer.average_decay=0.9", "training.epochs=6", "training.batch_tokens=200",
]
checkpoints = "checkpoints"
[frozen]
corpus = "frozen"
split = "val"
[gate]
metric = "accuracy"
margin = 2
[hooks.promoted]
command = ["sh", "-c", "cat >> told; echo >> told"]
[hooks.refused]
command = ["sh", "-c", "cat >> told; echo >> told"]
[hooks.failed]
command = ["sh", "-c", "cat >> told; echo >> told"]
"""
WORDS = 15


def lines(seed: int, num: int) -> str:
    """Sentences whose mood one of their words tells."""
    rng = random.Random(seed)
    told = []
    for _ in range(num):
        mood = rng.choice(("good", "bad"))
        sentence = [f"it{rng.randrange(20)}" for _ in range(4)]
        sentence.insert(rng.randrange(5), f"{mood}{rng.randrange(WORDS)}")
        told.append(f"{mood}\t{' '.join(sentence)}\n")
    return "".join(told)


class Moods:
    """A folder with all of it."""

    def __init__(self, folder: Path, uri: str | None = None) -> None:
        from intertitle.pipeline.importers.labelled import import_labelled

        self.folder = folder
        self.uri = uri or f"sqlite:///{folder}/mlflow.db"
        (folder / "inbox").mkdir()
        (folder / "inbox" / "val.tsv").write_text(lines(2, 60))
        (folder / "inbox" / "train.tsv").write_text(lines(1, 240))
        (folder / "val.tsv").write_text(lines(3, 300))
        import_labelled(folder / "val.tsv", folder / "frozen")
        (folder / "moods.toml").write_text(CONFIG)

    def retrain(self, slot: str) -> SlotOutcome:
        config = load_config(self.folder / "moods.toml")
        return retrain(config, slot, if_new=False, tracking_uri=self.uri)

    @property
    def champion(self) -> RunRef | None:
        return registry.champion("moods", self.uri)

    def told(self) -> list[str]:
        """What the hooks were told."""
        file = self.folder / "told"
        rows = file.read_text().splitlines() if file.exists() else []
        return [json.loads(row)["outcome"] for row in rows if row]


@pytest.fixture
def moods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None) -> Moods:
    monkeypatch.chdir(tmp_path)  # where the hooks write
    return Moods(tmp_path)


@pytest.mark.usefixtures("trains_in_process")
def test_a_slot_called_again_does_nothing_twice(moods: Moods) -> None:
    first = moods.retrain("2026-11-20T03:00+01:00")
    assert (first.outcome, first.before) == (PROMOTED, False)
    champion = moods.champion
    again = moods.retrain("2026-11-20T03:00+01:00")
    assert (again.outcome, again.before, again.run_id) == (PROMOTED, True, first.run_id)
    assert moods.champion == champion
    assert moods.told() == [PROMOTED]
    training = retraining_runs.training_of(RunRef(first.run_id, "", moods.uri))
    assert training is not None
    assert training[1]


@pytest.mark.usefixtures("trains_in_process")
def test_a_stopped_slot_prints_how_to_continue_and_is_not_failed(
    moods: Moods, intertitle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("INTERTITLE_FAILPOINT", "retrain_trained=term")
        ended = intertitle(
            "retrain", "moods.toml", "--slot", "a night", "--tracking-uri", moods.uri
        )
    assert ended.code == 75
    assert ended.err.splitlines()[-1] == (
        "intertitle: stopped; to go on: intertitle retrain moods.toml --slot 'a night'"
    )
    assert "epoch 6" in ended.err
    assert moods.told() == []
    finished = moods.retrain("a night")
    assert (finished.outcome, finished.before) == (PROMOTED, False)


def test_a_model_that_another_host_retrains_is_left_to_it(moods: Moods) -> None:
    with (
        only_one("moods", retraining_runs.EXPERIMENT, moods.uri, print),
        pytest.raises(UserError, match=r"moods: process \d+ on \S+ is retraining it"),
    ):
        moods.retrain("night")
    assert retraining_runs.find_slot("moods", "night", moods.uri) is None


@pytest.mark.chaos
def test_two_daemons_on_two_hosts_run_each_slot_once(
    moods: Moods, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from mlflow import MlflowClient

    hosts = [moods, Moods(tmp_path_factory.mktemp("other host"), moods.uri)]
    command = ["schedule", "moods.toml", "--cron", "* * * * *", "--tracking-uri", moods.uri]
    daemons = []
    for host in hosts:
        with (host.folder / "printed").open("w") as printed:
            daemons.append(
                subprocess.Popen(
                    [sys.executable, "-m", "intertitle.jobs", *command],
                    cwd=host.folder,
                    stdout=printed,
                    stderr=printed,
                )
            )
    try:
        deadline = time.monotonic() + 400
        while (
            not retraining_runs.finished_slots("moods", moods.uri) and time.monotonic() < deadline
        ):
            assert all(daemon.poll() is None for daemon in daemons)
            time.sleep(1)
    finally:
        for daemon in daemons:
            daemon.terminate()
        for daemon in daemons:
            daemon.wait()
    told = "".join((host.folder / "printed").read_text() for host in hosts)
    assert retraining_runs.finished_slots("moods", moods.uri), told
    assert "is retraining it; one at a time" in told
    client = MlflowClient(moods.uri)
    begun = client.search_runs(
        [client.get_experiment_by_name(retraining_runs.EXPERIMENT).experiment_id]
    )
    names = [run.data.tags[retraining_runs.SLOT] for run in begun]
    assert len(set(names)) == len(names)
    trained = client.search_runs([client.get_experiment_by_name("intertitle").experiment_id])
    parents = [run.data.tags[retraining_runs.PARENT] for run in trained]
    assert len(set(parents)) == len(parents)


@pytest.mark.chaos
def test_killed_after_measuring_and_after_the_move_the_slot_is_finished_once(
    moods: Moods,
) -> None:
    command = [sys.executable, "-m", "intertitle.jobs", "retrain", "moods.toml", "--slot", "night"]
    for place, promoted in (("retrain_measured", False), ("retrain_moved", True)):
        environment = os.environ | {
            "INTERTITLE_FAILPOINT": f"{place}=kill",
            "MLFLOW_TRACKING_URI": moods.uri,
        }
        # Not pipes: Ray's processes outlive it for a while and would hold them.
        with (moods.folder / "printed").open("w+") as printed:
            ended = subprocess.run(
                command, cwd=moods.folder, env=environment, stdout=printed, stderr=printed
            )
            printed.seek(0)
            assert ended.returncode == -signal.SIGKILL, printed.read()
        assert (moods.champion is not None) == promoted
        assert moods.told() == []
    finished = moods.retrain("night")
    assert (finished.outcome, finished.before) == (PROMOTED, False)
    assert moods.told() == [PROMOTED]

    from mlflow import MlflowClient

    client = MlflowClient(moods.uri)
    assert len(client.search_model_versions("name = 'moods'")) == 1
    assert client.get_registered_model("moods").description.count("promoted") == 1
    experiment = client.get_experiment_by_name("intertitle")
    assert len(client.search_runs([experiment.experiment_id])) == 1
