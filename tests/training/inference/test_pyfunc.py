"""A trained model as MLflow loads it, in a process that knows nothing but the run."""

from __future__ import annotations

import json
import os
import pickletools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.inference import pyfunc
from intertitle.training.inference.model_bundle import TrainedModel, load_trained
from intertitle.training.inference.predictor import predict
from intertitle.training.inference.pyfunc import signature_of, write_mlflow_model
from intertitle.training.models.build import build_model, sizes_of, task_of
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import RunRef, download, resolve_run
from tests.training.conftest import open_data_ref, small_recipe

SENTENCES = ["a dull film", "a fine film", "so dull", "so fine"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """Reads sentences; it has learned nothing."""
    corpus = tmp_path_factory.mktemp("sentences")
    examples = [
        Example(str(n), split, None, text, ("good" if "fine" in text else "bad",))
        for split in ("train", "val")
        for n, text in enumerate(SENTENCES, start=4 * (split == "val"))
    ]
    write_corpus(corpus, [], examples)
    recipe = small_recipe("sentiment", "source_tokenizer.min_count=1")
    data = open_data_ref(corpus, None, "nothing")
    vocabularies = build_vocabs(recipe, *texts_of(Corpus(corpus), "train", task_of(recipe.model)))
    model = build_model(recipe.model, sizes_of(vocabularies, data))
    return TrainedModel(model.eval(), vocabularies, recipe, data, step=7)


@pytest.fixture(scope="module")
def logged(classifier: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunRef]:
    folder = tmp_path_factory.mktemp("store")
    write_mlflow_model(classifier, folder / "written")
    with TrackedRun.start(f"sqlite:///{folder}/mlflow.db", "served", "served") as run:
        run.model(folder / "written", "model")
        # A training that goes on ends in a model again: it takes the place of the one before.
        run.model(folder / "written", "model")
    yield run.ref


def client(ref: RunRef) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(ref.tracking_uri)


LOAD = """
import json, sys
import mlflow
import pandas as pd
uri, asked, *models = sys.argv[1:]
mlflow.set_tracking_uri(uri)
for name in models:
    model = mlflow.pyfunc.load_model(name)
    answers = model.predict(pd.DataFrame({"text": json.loads(asked)}))
    print("answers", json.dumps(answers.to_dict("list")))
"""


def test_mlflow_loads_a_registered_model_in_a_fresh_process_and_asks_it(
    classifier: TrainedModel, logged: RunRef
) -> None:
    mlflow = client(logged)
    mlflow.create_registered_model("film critic")
    source = f"{mlflow.get_run(logged.run_id).info.artifact_uri}/model"
    mlflow.create_model_version("film critic", source, run_id=logged.run_id)
    asked = [*SENTENCES, SENTENCES[0]]
    models = [f"runs:/{logged.run_id}/model", "models:/film critic/1"]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, logged.tracking_uri, json.dumps(asked), *models],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("answers ")]
    expected = [predict(classifier, texts=[text])[0] for text in asked]
    assert len(told) == len(models)
    for line in told:
        answers = json.loads(line.removeprefix("answers "))
        assert answers["text"] == [one.text for one in expected]
        assert answers["score"] == pytest.approx([one.score for one in expected], abs=1e-6)
    assert resolve_run("models:/film critic/1", logged.tracking_uri) == logged


def test_it_is_the_one_model_of_its_run_and_is_read_back_whole(
    classifier: TrainedModel, logged: RunRef
) -> None:
    run = client(logged).get_run(logged.run_id)
    (model,) = json.loads(run.data.tags["mlflow.log-model.history"])
    assert (model["run_id"], model["artifact_path"]) == (logged.run_id, "model")
    assert model["flavors"].keys() == {"python_function"}
    read = load_trained(logged)
    assert (read.recipe, read.step) == (classifier.recipe, 7)


def test_nothing_of_it_is_pickled(logged: RunRef) -> None:
    files = [file for file in download(logged, "model").rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert {"MLmodel", "model.safetensors", "requirements.txt"} <= names
    for file in files:
        assert file.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".bin"}
        with pytest.raises(ValueError, match=r".+"):
            list(pickletools.genops(file.read_bytes()))


@pytest.mark.parametrize(
    ("recipe", "inputs"),
    [
        ("vqa_lstm", ["file", "text"]),
        ("s2vt", ["file"]),
        ("seq2seq_attention", ["text"]),
        ("char_lm", None),
    ],
)
def test_a_model_is_asked_with_what_its_task_is_about(
    classifier: TrainedModel, recipe: str, inputs: list[str] | None
) -> None:
    signature = signature_of(replace(classifier, recipe=small_recipe(recipe)))
    assert (signature.inputs and signature.inputs.input_names()) == inputs
    assert signature.outputs.input_names() == ["text", "score"]


def test_a_project_that_is_not_installed_writes_its_models(
    classifier: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training by `python -m intertitle.jobs` must not end without its model."""

    def version_of(package: str) -> str:
        if package == "intertitle":
            raise PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(pyfunc, "version", version_of)
    write_mlflow_model(classifier, tmp_path / "model")
    needed = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert "intertitle" in needed
    assert f"torch=={version('torch')}" in needed
