"""Checkpoints of a training, in folders that are either complete or refused.

Tensors are stored as safetensors and the rest as JSON: nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from intertitle.pipeline.errors import JobError, UserError
from intertitle.pipeline.storage.format_version import FormatVersion, FormatVersionError
from intertitle.pipeline.storage.manifest_folder import read_folder, write_folder
from intertitle.training.data.sampler import Cursor

CHECKPOINT_FORMAT = FormatVersion("checkpoint", 1)
# The last step of an epoch has two checkpoints, before and after the epoch is measured; the third
# one is a reserve in case these are damaged.
CHECKPOINTS_KEPT = 3
# Error numbers of a full file system and of an exceeded quota.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
Tensors = Mapping[str, Tensor]
# The attributes of a checkpoint that hold tensors, each in a file of its own.
TENSOR_GROUPS = ("weights", "average", "best", "optimizer", "rnn_state", "loss_scale")


def save_tensors(tensors: Tensors) -> bytes:
    """Serialize tensors by name as safetensors."""
    data: bytes = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    return data


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a training.

    Attributes:
        cursor: epoch, and number of its completed batches.
        step: number of completed optimizer steps.
        best_epoch: number of the epoch whose weights are kept, from 1; 0 before the end of the
            first.
        best_value: value of the monitored figure in the best epoch.
        history: figures of each epoch.
        epoch_nats: sum of the training tokens' -log p in this epoch so far, in nats; in a
            checkpoint, over all workers.
        epoch_words: number of these tokens.
        skipped: number of skipped steps: those whose loss or gradient was not finite.
        skipped_in_a_row: number of skipped steps since the last step that was not skipped.
    """

    cursor: Cursor = field(default_factory=Cursor)
    step: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    history: tuple[dict[str, float], ...] = ()
    epoch_nats: float = 0.0
    epoch_words: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training needs to continue as if it had never stopped.

    The random numbers of a step are a function of the seed, the step and the rank, so the state of
    a random number generator is not needed.

    Attributes:
        progress: progress of the training.
        weights: weights of the model, by name.
        average: running average of the weights; empty if the recipe uses none.
        best: weights of the best epoch; empty before the end of the first.
        optimizer: state tensors of the optimizer, by "parameter.name".
        rnn_state: recurrent states of all streams of running text, [layers, streams, H]; else
            empty.
        loss_scale: state of the loss scale; empty unless the precision is float16.
    """

    progress: Progress
    weights: Tensors
    average: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    optimizer: Tensors = field(default_factory=dict)
    rnn_state: Tensors = field(default_factory=dict)
    loss_scale: Tensors = field(default_factory=dict)

    def on_host(self) -> Checkpoint:
        """Return a copy in the memory of the host, which later steps do not change.

        The weights of the best epoch and the recurrent states are already copies.
        """
        return Checkpoint(
            self.progress,
            **{
                group: {
                    name: tensor.detach().to("cpu", copy=group not in ("best", "rnn_state"))
                    for name, tensor in getattr(self, group).items()
                }
                for group in TENSOR_GROUPS
            },
        )

    def first_not_finite(self) -> str | None:
        """Return the name of a tensor that holds NaN or infinity, or None."""
        for group in TENSOR_GROUPS:
            for name, tensor in getattr(self, group).items():
                if not tensor.isfinite().all():
                    return f"{group}: {name}"
        return None

    def write(self, folder: Path) -> None:
        """Write the checkpoint into a new folder, all or nothing."""
        write_folder(
            folder,
            {
                "progress.json": json.dumps(asdict(self.progress)).encode(),
                **{
                    f"{group}.safetensors": save_tensors(getattr(self, group))
                    for group in TENSOR_GROUPS
                },
            },
            CHECKPOINT_FORMAT,
        )

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Read a checkpoint that `write` wrote.

        Raises:
            UserError: the folder is damaged, or has another version of the format.
        """
        files = read_folder(folder, CHECKPOINT_FORMAT)
        state = json.loads(files["progress.json"])
        state["cursor"] = Cursor(**state["cursor"])
        state["history"] = tuple(state["history"])
        return cls(
            Progress(**state),
            *(load(files[f"{group}.safetensors"]) for group in TENSOR_GROUPS),
        )


class NoSpaceError(Exception):
    """There is not enough space for a checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Checkpoints of one run, under names that sort by progress.

    Each is written completely or not at all. Damage that happens later is detected when it is read.

    Attributes:
        folder: folder of the run, on a file system where renames are atomic.
    """

    folder: Path

    def names(self) -> list[str]:
        """Return the names of the checkpoints, newest first."""
        return sorted((path.name for path in self.folder.glob("checkpoint_*")), reverse=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the newest `CHECKPOINTS_KEPT`.

        If there is no space for it, all others but the newest valid one are removed first.

        Raises:
            JobError: the checkpoint holds NaN or infinity, and is not written.
            NoSpaceError: there is not enough space; the newest valid checkpoint still exists.
        """
        progress = checkpoint.progress
        # The checkpoint at the end of an epoch has the same step as the one after the epoch's last
        # batch, so names include the epoch.
        target = self.folder / f"checkpoint_{progress.cursor.epoch:05d}_{progress.step:09d}"
        # It exists if the training has just been restored from it, or has just written it.
        if not target.exists():
            self._remove_unfinished()
            self._write(checkpoint, target)
        for name in self.names()[CHECKPOINTS_KEPT:]:
            shutil.rmtree(self.folder / name)

    def _write(self, checkpoint: Checkpoint, target: Path) -> None:
        if (bad := checkpoint.first_not_finite()) is not None:
            raise JobError(
                f"{bad} is not finite after step {checkpoint.progress.step}: the training has "
                "diverged; a smaller optimizer.learning_rate may help"
            )
        try:
            checkpoint.write(target)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self._make_room()
            try:
                checkpoint.write(target)
            except OSError as second_error:
                if second_error.errno not in _NO_SPACE:
                    raise
                raise NoSpaceError(f"{target}: {second_error.strerror}") from second_error

    def _make_room(self) -> None:
        """Remove all checkpoints but the newest valid one."""
        newest, _ = self.newest_valid()
        for name in self.names():
            if name != newest:
                shutil.rmtree(self.folder / name)

    def _remove_unfinished(self) -> None:
        """Remove incomplete folders, left by a process that was killed while it wrote."""
        for path in self.folder.glob(".checkpoint_*.writing"):
            shutil.rmtree(path, ignore_errors=True)

    def read(self, name: str) -> Checkpoint:
        """Read the checkpoint with one of the `names`.

        Raises:
            UserError: it is damaged, or holds NaN or infinity.
        """
        checkpoint = Checkpoint.read(self.folder / name)
        if (bad := checkpoint.first_not_finite()) is not None:
            raise UserError(f"{self.folder / name}: {bad} is not finite")
        return checkpoint

    def newest_valid(self) -> tuple[str | None, tuple[str, ...]]:
        """Find the newest valid checkpoint: one that is complete and has only finite values.

        Newer checkpoints that are not valid are renamed to damaged_*: they remain for inspection,
        and are ignored from then on.

        Returns:
            The name, or None if there are no checkpoints, and the errors of newer ones.

        Raises:
            UserError: there are checkpoints, but none is valid, or one has another version of the
                format.
        """
        damages: dict[str, str] = {}
        for name in self.names():
            try:
                self.read(name)
            except FormatVersionError:
                raise
            except (UserError, OSError) as error:
                damages[name] = str(error)
                continue
            for damaged in damages:
                shutil.rmtree(self.folder / f"damaged_{damaged}", ignore_errors=True)
                (self.folder / damaged).rename(self.folder / f"damaged_{damaged}")
            return name, tuple(damages.values())
        if damages:
            raise UserError(f"no checkpoint is whole: {'; '.join(damages.values())}")
        return None, ()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state tensors of an optimizer by name; its settings come from the recipe."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Restore the state that `optimizer_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
