"""Folders that are whole or refused, and what a training needs to go on.

Tensors are safetensors and the rest is JSON: nothing is ever unpickled. A manifest with the hash of
every file is written last, and a folder gets its name once it is complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

from pipeline.errors import JobError, UserError
from pipeline.failpoints import failpoint
from training.data.sampler import Cursor

MANIFEST = "manifest.json"
# An epoch's last step is kept twice, measured and not; the third is for when those are damaged.
CHECKPOINTS_KEPT = 3
# What a file system answers that is full, or whose user has no more of it.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
Tensors = Mapping[str, Tensor]


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files and their manifest into a new folder, all or nothing."""
    unfinished = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        for name, data in files.items():
            failpoint("write-folder", f"{folder.name}/{name}")
            (unfinished / name).write_bytes(data)
        hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        (unfinished / MANIFEST).write_text(json.dumps(hashes, indent=1))
        unfinished.rename(folder)
    except OSError:
        # On a full disk half a folder would take the room of a whole one.
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def read_folder(folder: Path) -> dict[str, bytes]:
    """The inverse of `write_folder`.

    Raises:
        UserError: the folder is incomplete or a file is not as it was written.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise UserError(f"{folder}: incomplete: it has no {MANIFEST}")
    try:
        hashes: dict[str, str] = json.loads(manifest.read_bytes())
    except ValueError as error:
        raise UserError(f"{manifest}: damaged: {error}") from error
    files: dict[str, bytes] = {}
    for name, expected in hashes.items():
        path = folder / name
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != expected:
            raise UserError(f"{path}: damaged: its checksum differs from {MANIFEST}")
        files[name] = data
    return files


def save_tensors(tensors: Tensors) -> bytes:
    """Tensors by name as safetensors."""
    data: bytes = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    return data


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is.

    Attributes:
        cursor: the batches done.
        step: the optimizer's steps done.
        best_epoch: the epoch, counted from 1, whose weights are kept; 0 before the first.
        best_value: of the monitored figure, in that epoch.
        history: the figures of each epoch.
        epoch_nats: of the training words of the epoch so far, summed; in a checkpoint, over all
            workers.
        epoch_words: their number.
        skipped: the steps whose loss or gradient was not finite.
        skipped_in_a_row: of these the last ones, with no other step after them.
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
    """All that a training needs to go on as if it had never stopped.

    The random numbers of a step are a function of the seed, the step and the rank, so there is no
    generator to keep.

    Attributes:
        progress: how far it is.
        weights: of the model.
        average: the running average of the weights; empty if none is kept.
        best: the weights of the best epoch; empty before the first.
        optimizer: its tensors, as "parameter.name".
        carried: the states that running text is read with, of all lanes; else empty.
    """

    progress: Progress
    weights: Tensors
    average: Tensors = field(default_factory=dict)
    best: Tensors = field(default_factory=dict)
    optimizer: Tensors = field(default_factory=dict)
    carried: Tensors = field(default_factory=dict)

    def first_not_finite(self) -> str | None:
        """The name of a tensor that holds NaN or infinity, or None."""
        for group in ("weights", "average", "best", "optimizer", "carried"):
            for name, tensor in getattr(self, group).items():
                if not tensor.isfinite().all():
                    return f"{group}: {name}"
        return None

    def write(self, folder: Path) -> None:
        """Write it, all or nothing."""
        write_folder(
            folder,
            {
                "progress.json": json.dumps(asdict(self.progress)).encode(),
                "weights.safetensors": save_tensors(self.weights),
                "average.safetensors": save_tensors(self.average),
                "best.safetensors": save_tensors(self.best),
                "optimizer.safetensors": save_tensors(self.optimizer),
                "carried.safetensors": save_tensors(self.carried),
            },
        )

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """The inverse of `write`.

        Raises:
            UserError: it is damaged.
        """
        files = read_folder(folder)
        state = json.loads(files["progress.json"])
        state["cursor"] = Cursor(**state["cursor"])
        state["history"] = tuple(state["history"])
        return cls(
            Progress(**state),
            *(
                load(files[f"{name}.safetensors"])
                for name in ("weights", "average", "best", "optimizer", "carried")
            ),
        )


class NoSpaceError(Exception):
    """There is no space for a checkpoint."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run, under names that sort by progress.

    Each is there whole or not at all; one that is damaged later is noticed when it is read.

    Attributes:
        folder: of the run, on a file system where a rename is atomic.
    """

    folder: Path

    def names(self) -> list[str]:
        """Newest first."""
        return sorted((path.name for path in self.folder.glob("checkpoint_*")), reverse=True)

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the newest `CHECKPOINTS_KEPT`.

        Where there is no space for it, all but the newest whole one are removed first.

        Raises:
            JobError: it holds NaN or infinity; it is not written.
            NoSpaceError: there is no space for it; the newest whole one is still there.
        """
        progress = checkpoint.progress
        # The end of an epoch is a checkpoint of its own at the step of the epoch's last batch.
        target = self.folder / f"checkpoint_{progress.cursor.epoch:05d}_{progress.step:09d}"
        # It is there if the training has just been restored from it, or has just kept it.
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
            except OSError as again:
                if again.errno not in _NO_SPACE:
                    raise
                raise NoSpaceError(f"{target}: {again.strerror}") from again

    def _make_room(self) -> None:
        """Remove all but the newest whole checkpoint."""
        newest, _ = self.newest_whole()
        for name in self.names():
            if name != newest:
                shutil.rmtree(self.folder / name)

    def _remove_unfinished(self) -> None:
        """Remove what a writer left that was killed."""
        for path in self.folder.glob(".checkpoint_*.writing"):
            shutil.rmtree(path, ignore_errors=True)

    def read(self, name: str) -> Checkpoint:
        """One of `names`.

        Raises:
            UserError: it is damaged, or holds NaN or infinity.
        """
        checkpoint = Checkpoint.read(self.folder / name)
        if (bad := checkpoint.first_not_finite()) is not None:
            raise UserError(f"{self.folder / name}: {bad} is not finite")
        return checkpoint

    def newest_whole(self) -> tuple[str | None, tuple[str, ...]]:
        """The newest whole one, None if there are none at all, and what is wrong with newer ones.

        One with a weight that is not finite is not whole.

        Those are renamed: they stay for a person to look at, and do not count any more.

        Raises:
            UserError: there are some, and none is whole.
        """
        damages: dict[str, str] = {}
        for name in self.names():
            try:
                self.read(name)
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
    """An optimizer's state, flat; its settings come from the recipe."""
    return {
        f"{index}.{name}": value
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """The inverse of `optimizer_tensors`."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
