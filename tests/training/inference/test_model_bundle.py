"""A model to use, as a run keeps it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.storage.manifest_folder import MANIFEST
from intertitle.training.data.data_ref import DataRef
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs
from intertitle.training.evaluation.answers import answer_examples
from intertitle.training.inference.model_bundle import TrainedModel, make_ensemble
from tests.training.conftest import make_loop, small_recipe, split_of

MODEL_FILES = ("model.safetensors", "vocabularies.json", "recipe.json", "training.json")


@pytest.fixture
def trained(things: DataRef, words: Vocabs) -> TrainedModel:
    recipe = small_recipe()
    model = make_loop(things, words, recipe).model
    return TrainedModel(model.eval(), words, recipe, things, step=7)


def test_nothing_is_pickled(trained: TrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    trained.write(folder)
    assert {file.name for file in folder.iterdir()} == {*MODEL_FILES, MANIFEST}
    load_file(folder / "model.safetensors")
    for file in folder.glob("*.json"):
        json.loads(file.read_text())


def test_a_trained_model_says_the_same_when_it_is_read_again(
    trained: TrainedModel, things: DataRef, tmp_path: Path
) -> None:
    trained.write(tmp_path / "model")
    read = TrainedModel.read(tmp_path / "model")
    assert (read.recipe, read.data, read.step) == (trained.recipe, trained.data, 7)
    assert read.vocabularies.to_json() == trained.vocabularies.to_json()
    assert not read.model.training
    dataset = split_of(things, "val", read.vocabularies)
    said = [
        answer_examples(one.model, dataset, range(5), one.recipe.search) for one in (read, trained)
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


def test_an_ensemble_is_of_one_vocabulary(trained: TrainedModel, things: DataRef) -> None:
    other = replace(trained, vocabularies=Vocabs(Tokenizer.captions(["a dog"], min_count=1)))
    with pytest.raises(UserError, match="other has another vocabulary than one"):
        make_ensemble({"one": trained, "other": other})
