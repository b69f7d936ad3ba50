"""Folders that are whole or refused."""

import contextlib
import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage import failpoints
from intertitle.pipeline.storage.manifest_folder import MANIFEST
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.sampler import Cursor
from intertitle.training.data.vocab import Vocabs
from intertitle.training.trainer.checkpoint import (
    Checkpoint,
    Checkpoints,
    NoSpaceError,
    Progress,
)
from tests.training.conftest import make_loop, small_recipe

FILES = (
    "progress.json",
    "weights.safetensors",
    "average.safetensors",
    "best.safetensors",
    "optimizer.safetensors",
    "rnn_state.safetensors",
    "loss_scale.safetensors",
)


@pytest.fixture(scope="module")
def checkpoint(things: DataRef, words: Vocabs) -> Checkpoint:
    """After an epoch and a step."""
    recipe = small_recipe("s2vt", "optimizer.average_decay=0.9", "training.batch_tokens=400")
    settings = recipe.training.model_copy(update={"max_steps": 8})
    loop = make_loop(things, words, recipe.model_copy(update={"training": settings}))
    loop.run()
    assert loop.progress.history
    return loop.checkpoint()


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    checkpoint.write(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def test_what_is_written_is_read(checkpoint: Checkpoint, folder: Path) -> None:
    read = Checkpoint.read(folder)
    assert read.progress == checkpoint.progress
    for name in ("weights", "average", "best", "optimizer"):
        written, found = getattr(checkpoint, name), getattr(read, name)
        assert written and written.keys() == found.keys()
        assert all(torch.equal(found[key], written[key]) for key in written)
        assert all(found[key].dtype == written[key].dtype for key in written)


def test_nothing_is_pickled(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == {*FILES, MANIFEST}
    for file in folder.iterdir():
        if file.suffix == ".json":
            json.loads(file.read_text())
        else:
            load_file(file)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("place", ["first", "middle"])
def test_a_flipped_byte_is_refused_by_name(folder: Path, name: str, place: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[0 if place == "first" else len(data) // 2] ^= 0x80
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=rf"checkpoint/.*{MANIFEST if name == MANIFEST else name}"):
        Checkpoint.read(folder)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        Checkpoint.read(folder)


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone"):
        Checkpoint.read(tmp_path / "gone")


def test_a_write_that_stopped_leaves_nothing_that_could_be_taken_for_whole(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        if path.name == "optimizer.safetensors":
            raise OSError(28, "No space left on device")
        return real(path, data)

    real = Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()
    for left in tmp_path.iterdir():
        with pytest.raises(UserError, match="incomplete"):
            Checkpoint.read(left)


def test_every_file_is_synced_before_the_checkpoint_takes_its_name(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    replace = Path.replace

    def sync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def note(path: Path, target: Path) -> Path:
        assert synced == {*FILES, MANIFEST, ".checkpoint.writing"}
        return replace(path, target)

    monkeypatch.setattr("intertitle.pipeline.storage.paths.os.fsync", sync)
    monkeypatch.setattr(Path, "replace", note)
    checkpoint.write(tmp_path / "checkpoint")
    assert tmp_path.name in synced


# A full disk


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """A number of bytes that `tmp_path` may hold; what is above it is written in part."""
    allowed, real = [2**40], Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        left = max(0, allowed[0] - size_of(tmp_path))
        real(path, data[:left])
        if left < len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(data)

    monkeypatch.setattr(Path, "write_bytes", write)
    return allowed


def at(step: int) -> Checkpoint:
    progress = Progress(cursor=Cursor(0, step), step=step)
    return Checkpoint(progress, {"weight": torch.full((20_000,), float(step))})


def name_of(step: int) -> str:
    return f"checkpoint_00000_{step:09}"


def test_where_there_is_no_space_older_checkpoints_make_room(
    quota: list[int], tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(at(step))
    quota[0] = size_of(tmp_path) + 1000
    checkpoints.save(at(4))
    assert checkpoints.names() == [name_of(4), name_of(3)]
    assert {path.name for path in tmp_path.iterdir()} == {name_of(4), name_of(3)}
    assert checkpoints.read(name_of(4)).progress.step == 4


def test_where_there_is_no_space_for_another_the_last_whole_one_stays(
    quota: list[int], tmp_path: Path
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(at(step))
    (tmp_path / name_of(2) / "weights.safetensors").unlink()
    quota[0] = size_of(tmp_path) + 1000
    with pytest.raises(NoSpaceError, match=rf"{name_of(3)}: No space left"):
        checkpoints.save(at(3))
    # Of the two the older one was whole, and nothing is left of the new one.
    assert checkpoints.names() == [name_of(1)]
    assert not list(tmp_path.glob(".*"))
    quota[0] = 2**40
    checkpoints.save(at(3))
    assert checkpoints.names() == [name_of(3), name_of(1)]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / f".{name_of(7)}.writing"
    left.mkdir()
    (left / "weights.safetensors").write_bytes(b"half")
    Checkpoints(tmp_path).save(at(8))
    assert [path.name for path in tmp_path.iterdir()] == [name_of(8)]


def test_an_error_that_no_room_would_mend_is_raised_and_costs_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(at(step))
    monkeypatch.setenv(failpoints.VARIABLE, "write-folder=fail")
    with pytest.raises(OSError, match="Input/output error"):
        checkpoints.save(at(3))
    assert checkpoints.names() == [name_of(2), name_of(1)]


# A writer that dies

WRITER = """
import sys
from pathlib import Path
import torch
from intertitle.training.trainer.checkpoint import Checkpoint, Checkpoints, Progress
from intertitle.training.data.sampler import Cursor

for step in range(1, 1000):
    progress = Progress(cursor=Cursor(0, step), step=step)
    tensors = {"weight": torch.full((8_000_000,), float(step))}
    Checkpoints(Path(sys.argv[1])).save(Checkpoint(progress, tensors, tensors))
"""


def test_a_writer_killed_in_the_middle_of_a_file_leaves_the_checkpoint_before(
    tmp_path: Path,
) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path])
    try:
        # Half of a file is there, and one checkpoint at least.
        while not (Checkpoints(tmp_path).names() and is_half_written(tmp_path)):
            assert writer.poll() is None
    finally:
        writer.kill()
        writer.wait()
    checkpoints = Checkpoints(tmp_path)
    name, damages = checkpoints.newest_valid()
    assert name is not None
    assert damages == ()
    read = checkpoints.read(name)
    step = float(read.progress.step)
    assert name == name_of(read.progress.step)
    for tensors in (read.weights, read.average):
        assert tensors["weight"].eq(step).all()
    checkpoints.save(at(2000))
    assert not list(tmp_path.glob(".*"))


def is_half_written(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        for file in folder.glob(".checkpoint_*.writing/*.safetensors"):
            if 0 < file.stat().st_size < 32_000_000:
                return True
    return False
