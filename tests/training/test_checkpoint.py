"""Folders that are whole or refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import UserError
from training.checkpoint import MANIFEST, Checkpoint, TrainedModel
from training.data.dataset import Dataset, DataSource
from training.data.tokenizer import WordTokenizer
from training.evaluation.evaluate import search_examples

from .conftest import make_loop, small_recipe

FILES = (
    "progress.json",
    "weights.safetensors",
    "average.safetensors",
    "best.safetensors",
    "optimizer.safetensors",
)
MODEL_FILES = ("model.safetensors", "tokenizer.json", "recipe.json", "training.json")


@pytest.fixture(scope="module")
def checkpoint(things: DataSource, tokenizer: WordTokenizer) -> Checkpoint:
    """After an epoch and a step."""
    recipe = small_recipe("s2vt", "optimizer.average_decay=0.9", "training.batch_tokens=400")
    settings = recipe.training.model_copy(update={"max_steps": 8})
    loop = make_loop(things, tokenizer, recipe.model_copy(update={"training": settings}))
    loop.run()
    assert loop.progress.history
    return loop.checkpoint()


@pytest.fixture
def folder(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    checkpoint.write(tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def trained(checkpoint: Checkpoint, things: DataSource, tokenizer: WordTokenizer) -> TrainedModel:
    recipe = small_recipe()
    model = make_loop(things, tokenizer, recipe).model
    model.load_state_dict(checkpoint.weights)
    return TrainedModel(model.eval(), tokenizer, recipe, things, step=7)


def test_what_is_written_is_read(checkpoint: Checkpoint, folder: Path) -> None:
    read = Checkpoint.read(folder)
    assert read.progress == checkpoint.progress
    for name in ("weights", "average", "best", "optimizer"):
        written, found = getattr(checkpoint, name), getattr(read, name)
        assert written and written.keys() == found.keys()
        assert all(torch.equal(found[key], written[key]) for key in written)
        assert all(found[key].dtype == written[key].dtype for key in written)


def test_nothing_is_pickled(folder: Path, trained: TrainedModel, tmp_path: Path) -> None:
    trained.write(tmp_path / "model")
    for place, names in ((folder, FILES), (tmp_path / "model", MODEL_FILES)):
        assert {file.name for file in place.iterdir()} == {*names, MANIFEST}
        for file in place.iterdir():
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


def test_a_trained_model_says_the_same_when_it_is_read_again(
    trained: TrainedModel, things: DataSource, tmp_path: Path
) -> None:
    trained.write(tmp_path / "model")
    read = TrainedModel.read(tmp_path / "model")
    assert (read.recipe, read.data, read.step) == (trained.recipe, trained.data, 7)
    assert read.tokenizer.to_json() == trained.tokenizer.to_json()
    assert not read.model.training
    dataset = Dataset(things, "val", read.tokenizer, 8)
    said = [
        search_examples(one.model, dataset, range(5), one.recipe.search) for one in (read, trained)
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_damaged_model_is_refused_by_name(
    trained: TrainedModel, tmp_path: Path, name: str
) -> None:
    trained.write(tmp_path / "model")
    file = tmp_path / "model" / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=name):
        TrainedModel.read(tmp_path / "model")
