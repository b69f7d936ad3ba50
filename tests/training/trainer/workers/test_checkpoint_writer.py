"""Checkpoints that a thread writes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from intertitle.pipeline.errors import JobError
from intertitle.training.trainer.checkpoint import (
    TENSOR_GROUPS,
    Checkpoint,
    Checkpoints,
    NoSpaceError,
    Progress,
)
from intertitle.training.trainer.events import NotKept
from intertitle.training.trainer.workers.checkpoint_writer import CheckpointWriter


def checkpoint_of(step: int, value: float = 1.0) -> Checkpoint:
    groups = {group: {"a": torch.full((3,), value)} for group in TENSOR_GROUPS}
    return Checkpoint(Progress(step=step), **groups)


def ignore(_: NotKept) -> None:
    pass


def test_what_is_written_is_the_state_when_it_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, go_on = Checkpoints(tmp_path), threading.Event()
    save = Checkpoints.save

    def slow(self: Checkpoints, checkpoint: Checkpoint) -> None:
        assert go_on.wait(60)
        save(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", slow)
    checkpoint = checkpoint_of(5)
    with CheckpointWriter(checkpoints, ignore) as writer:
        writer.save(checkpoint)
        for group in ("weights", "average", "optimizer", "loss_scale"):
            getattr(checkpoint, group)["a"].add_(1)
        assert checkpoints.names() == []
        go_on.set()
    written = checkpoints.read("checkpoint_00000_000000005")
    for group in TENSOR_GROUPS:
        assert getattr(written, group)["a"].tolist() == [1, 1, 1]


def test_errors_of_the_thread_end_the_training(tmp_path: Path) -> None:
    writer = CheckpointWriter(Checkpoints(tmp_path), ignore)
    with pytest.raises(JobError, match="not finite after step 5"), writer:
        writer.save(checkpoint_of(5, torch.nan))
    with (
        pytest.raises(JobError, match="not finite after step 6"),
        CheckpointWriter(Checkpoints(tmp_path), ignore) as writer,
    ):
        writer.save(checkpoint_of(6, torch.nan))
        writer.save(checkpoint_of(7))
    assert Checkpoints(tmp_path).names() == []


def test_an_error_of_the_training_is_not_replaced_by_one_of_the_thread(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="of the training"),
        CheckpointWriter(Checkpoints(tmp_path), ignore) as writer,
    ):
        writer.save(checkpoint_of(5, torch.nan))
        raise ValueError("of the training")


def test_a_full_disk_is_reported_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Checkpoints, checkpoint: Checkpoint) -> None:
        raise NoSpaceError("no space")

    reports: list[NotKept] = []
    with CheckpointWriter(Checkpoints(tmp_path), reports.append) as writer:
        monkeypatch.setattr(Checkpoints, "save", full)
        writer.save(checkpoint_of(5))
    assert reports == [NotKept(5, "no space")]
