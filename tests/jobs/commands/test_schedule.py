"""`intertitle schedule` as a process that starts others."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from intertitle.jobs.retraining import daemon
from intertitle.jobs.retraining.run_slot import NOTHING_NEW, PROMOTED
from intertitle.training.tracking.registry import retraining_runs
from tests.jobs.program import TIMEOUT_S, somebody
from tests.jobs.retraining.test_run_slot import Moods

CONFIG = """
model = "moods"
[data]
corpus = "corpus"
[train]
recipe = "sentiment"
checkpoints = "checkpoints"
[frozen]
corpus = "frozen"
"""
SLOT = """#!/bin/sh
trap 'sleep 0.2; touch ended; exit 75' TERM
echo "$@" > begun.new; mv begun.new begun
while :; do sleep 0.05; done
"""


def test_told_to_stop_it_has_the_slot_that_runs_stop_first(
    intertitle: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moods.toml").write_text(CONFIG)
    slot = tmp_path / "slot"
    slot.write_text(SLOT)
    slot.chmod(0o700)
    # Its time has come.
    monkeypatch.setattr(daemon, "serve", lambda *_, run, **others: run("night"))
    monkeypatch.setattr(sys, "executable", str(slot))

    def stop() -> None:
        deadline = time.monotonic() + 300
        while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    ended = intertitle("schedule", "moods.toml", "--cron", "0 3 * * *")
    assert ended.code == 75, ended.err
    assert (tmp_path / "ended").exists()
    assert (tmp_path / "begun").read_text().split()[2:] == [
        *("retrain", "moods.toml", "--slot", "night")
    ]


@pytest.mark.chaos
def test_two_schedulers_run_each_slot_once(tmp_path: Path) -> None:
    """Two processes serve one schedule, whose time comes every minute of the machine's clock."""
    moods = Moods(tmp_path)
    client = MlflowClient(moods.uri)
    client.search_experiments()  # makes the database
    command = ("schedule", "moods.toml", "--cron", "* * * * *", "--if-new")
    with somebody(tmp_path) as person:
        schedulers = [person.start(*command, "--tracking-uri", moods.uri) for _ in range(2)]
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while len(retraining_runs.finished_slots("moods", moods.uri)) < 2:
                assert all(scheduler.poll() is None for scheduler in schedulers)
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            for scheduler in schedulers:
                scheduler.terminate()
            told = [scheduler.communicate()[1] for scheduler in schedulers]
    assert [scheduler.returncode for scheduler in schedulers] == [75, 75], told
    # Both began the first slot at least, in which one of them trains for a while.
    begun = [set(re.findall(r"^slot (\S+)$", text, re.MULTILINE)) for text in told]
    assert begun[0] & begun[1], told
    experiments = {e.name: e.experiment_id for e in client.search_experiments()}
    runs = client.search_runs([experiments[retraining_runs.EXPERIMENT]])
    names = [run.data.tags[retraining_runs.SLOT] for run in runs]
    assert len(names) == len(set(names)) >= 2
    outcomes = [run.data.tags.get(retraining_runs.OUTCOME) for run in runs]
    assert outcomes.count(PROMOTED) == 1 and set(outcomes) <= {PROMOTED, NOTHING_NEW, None}
    assert len(client.search_runs([experiments["intertitle"]])) == 1
    assert moods.told() == [PROMOTED]


def test_an_exported_slot_runs_in_the_image_of_this_version(
    intertitle: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "moods.toml").write_text(CONFIG)
    flags = ("--cron", "0 3 * * *", "--export", "kubernetes")
    ended = intertitle("schedule", tmp_path / "moods.toml", *flags)
    assert f"image: intertitle:{version('intertitle')}\n" in ended.out
    ended = intertitle("schedule", tmp_path / "moods.toml", *flags, "--image", "mine:2")
    assert "image: mine:2\n" in ended.out
