"""Folders that are whole or refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import UserError
from training.checkpoint import MANIFEST, Checkpoint
from training.data.source import DataSource
from training.data.vocabularies import Vocabularies

from .conftest import make_loop, small_recipe

FILES = (
    "progress.json",
    "weights.safetensors",
    "average.safetensors",
    "best.safetensors",
    "optimizer.safetensors",
    "carried.safetensors",
)


@pytest.fixture(scope="module")
def checkpoint(things: DataSource, words: Vocabularies) -> Checkpoint:
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
