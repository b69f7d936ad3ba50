"""`intertitle schedule` as a process that starts others."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.deploying.settings import Settings
from jobs.scheduling import daemon

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
        deadline = time.monotonic() + 60
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


def test_an_exported_slot_runs_in_the_image_of_infra(
    intertitle: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "moods.toml").write_text(CONFIG)
    flags = ("--cron", "0 3 * * *", "--export", "kubernetes")
    ended = intertitle("schedule", tmp_path / "moods.toml", *flags)
    assert f"image: {Settings().image}\n" in ended.out
    ended = intertitle("schedule", tmp_path / "moods.toml", *flags, "--image", "mine:2")
    assert "image: mine:2\n" in ended.out
