"""A trained model as MLflow loads it, in a process that knows nothing but the run."""

from __future__ import annotations

import base64
import json
import os
import pickletools
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from zipfile import ZipFile

import pandas as pd
import pytest
import torch
from PIL import Image

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.fingerprint import make_fingerprint
from intertitle.training.data.data_ref import DataRef, FeatureRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.tokenizer import Tokenizer
from intertitle.training.data.vocab import Vocabs, build_vocabs
from intertitle.training.inference.model_bundle import TrainedModel, load_trained
from intertitle.training.inference.predictor import predict
from intertitle.training.inference.pyfunc import signature_of, wheel, write_mlflow_model
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
        if file.suffix == ".whl":
            names = ZipFile(file).namelist()
            kinds = {PurePosixPath(name).suffix for name in names if ".dist-info/" not in name}
            assert kinds == {".py", ".typed", ".toml", ".jinja", ".css", ".yaml"}
            continue
        assert file.suffix not in {".pkl", ".pickle", ".pt", ".pth", ".bin"}
        with pytest.raises(ValueError, match=r".+"):
            list(pickletools.genops(file.read_bytes()))


@pytest.mark.parametrize(
    ("recipe", "inputs"),
    [
        ("vqa_lstm", ["file", "data", "text"]),
        ("s2vt", ["file", "data"]),
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


def test_others_can_install_what_a_model_needs(logged: RunRef) -> None:
    needed = (download(logged, "model") / "requirements.txt").read_text().splitlines()
    # The package index has no builds with a local version, such as "+cpu".
    assert f"torch=={version('torch').partition('+')[0]}" in needed
    assert f"wheels/intertitle-{version('intertitle')}-py3-none-any.whl" in needed
    assert not any(line.startswith("intertitle") for line in needed)


def test_a_rebuilt_environment_loads_a_model(
    classifier: TrainedModel, logged: RunRef, tmp_path: Path
) -> None:
    """The project comes from the model's wheel alone, its dependencies from this environment."""
    venv.create(tmp_path / "rebuilt")
    python = tmp_path / "rebuilt" / "bin" / "python"
    (site,) = (tmp_path / "rebuilt" / "lib").glob("*/site-packages")
    # In a folder that a .pth file names, no .pth files are read, such as that of this project.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    model = download(logged, "model")
    (file,) = [
        line for line in (model / "requirements.txt").read_text().splitlines() if "wheels/" in line
    ]
    install = ["-m", "pip", "--python", python, "install", "--no-deps", "--no-index", file]
    subprocess.run([sys.executable, *install], cwd=model, check=True, capture_output=True)
    done = subprocess.run(
        [
            *(python, "-c", f"import intertitle; print(intertitle.__path__[0])\n{LOAD}"),
            *(logged.tracking_uri, json.dumps(SENTENCES), f"runs:/{logged.run_id}/model"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    place, *_, told = done.stdout.splitlines()
    assert place == str(site / "intertitle")
    expected = [predict(classifier, texts=[text])[0].text for text in SENTENCES]
    assert json.loads(told.removeprefix("answers "))["text"] == expected


def test_a_project_that_is_not_installed_writes_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training by `python -m intertitle.jobs` must not end without its model."""

    def missing(package: str) -> NoReturn:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(wheel, "distribution", missing)
    assert wheel.write_wheel(tmp_path).name == "intertitle-0-py3-none-any.whl"


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory, onnx_cache: Path) -> Path:
    """A folder with a captioner of photographs that has learned nothing, as MLflow loads it."""
    torch.manual_seed(0)
    spec = backbone_spec("efficientnet_lite0")
    made = make_fingerprint(spec, Uniform(1), "arrow", "float32").features_json()
    data = DataRef("corpus", "0", (FeatureRef("features", "0", made, spec.shape[-1]),))
    words = Vocabs(Tokenizer.words(["a red ball here"], min_count=1, lowercase=True), None)
    recipe = small_recipe("show_and_tell", "search.max_tokens=6")
    model = build_model(recipe.model, sizes_of(words, data))
    folder = tmp_path_factory.mktemp("captioner") / "model"
    write_mlflow_model(TrainedModel(model.eval(), words, recipe, data, step=1), folder)
    return folder


def test_a_photograph_is_a_path_or_its_bytes(captioner: Path, tmp_path: Path) -> None:
    import mlflow.pyfunc

    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(photo)
    model = mlflow.pyfunc.load_model(str(captioner))
    by_path = model.predict(pd.DataFrame({"file": [str(photo)]}))
    by_bytes = model.predict(pd.DataFrame({"data": [photo.read_bytes()]}))
    assert by_path.to_dict() == by_bytes.to_dict()
    # MLflow's server takes a request as JSON, with bytes as base64.
    encoded = base64.b64encode(photo.read_bytes()).decode()
    request = json.dumps({"dataframe_split": {"columns": ["data"], "data": [[encoded]]}})
    answer = _scored(captioner, request)
    assert answer["predictions"] == by_path.to_dict("records")
    with pytest.raises(UserError, match="one of `file`, a path, and `data`, bytes"):
        model.predict(pd.DataFrame({"file": [str(photo)], "data": [b"x"]}))


def _scored(folder: Path, request: str) -> dict[str, Any]:
    """The answer of MLflow's scoring server to a request, without a socket."""
    import mlflow.pyfunc
    from mlflow.pyfunc.scoring_server import invocations

    model = mlflow.pyfunc.load_model(str(folder))
    result = invocations(request, "application/json", model, model.metadata.get_input_schema())
    assert result.status == 200, result.response
    answer: dict[str, Any] = json.loads(result.response)
    return answer


def test_params_change_the_search(captioner: Path, tmp_path: Path) -> None:
    import mlflow.pyfunc

    photo = tmp_path / "photo.png"
    Image.linear_gradient("L").convert("RGB").save(photo)
    rows = pd.DataFrame({"file": [str(photo)]})
    model = mlflow.pyfunc.load_model(str(captioner))
    trained = TrainedModel.read(captioner)
    for params in ({"beam": 1}, {"beam": 5, "length_penalty": 0.0}, {"prefix": "a red"}):
        fields = {"beam_size" if name == "beam" else name: v for name, v in params.items()}
        (expected,) = predict(trained.with_search(**fields), [photo])
        answer = model.predict(rows, params=params)
        assert (answer["text"][0], answer["score"][0]) == (
            expected.text,
            pytest.approx(expected.score, abs=1e-6),
        )
    assert model.predict(rows, params={"prefix": "a red"})["text"][0].startswith("a red")
    with pytest.raises(UserError, match="beam_size: 0"):
        model.predict(rows, params={"beam": 0})
