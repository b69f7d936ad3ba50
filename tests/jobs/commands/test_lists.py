"""`intertitle runs`, `models`, `recipes` and `backbones`: what there is, as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.backbones import backbone_spec
from intertitle.pipeline.backbones.families import FAMILIES
from intertitle.training.config.recipe import Recipe, flatten, load_recipe, recipe_names
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.run_list import score_tags
from tests.conftest import Ended

Program = Callable[..., Ended]


def answer(ended: Ended) -> dict[str, Any]:
    """The JSON object of a command that succeeded."""
    assert ended.code == 0, ended.err
    last: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
    return last


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a measured run, one that was measured in two ways, and one that failed."""
    folder = tmp_path_factory.mktemp("project")
    uri, tags = f"sqlite:///{folder}/mlflow.db", {"recipe": "s2vt"}
    with TrackedRun.start(uri, "intertitle", "first", tags=tags) as run:
        run.tags(score_tags("eval/val/beam_3", {"cider": 0.5, "bleu_4": 9.796e-12}))
        run.tags({"eval/val/beam_3/warnings": "sources are cut"})
        run.text("model/weights.txt", "first")
    params = {"search.method": "beam", "search.beam_size": 12}
    with TrackedRun.start(uri, "intertitle", "second", params, tags) as run:
        for evaluation, cider in (
            ("val/beam_3", 0.75),
            ("test/beam_3", 0.1),
            ("val/beam_3_prefix_a", 0.2),
            ("val/beam_12", 0.875),
        ):
            run.tags(score_tags(f"eval/{evaluation}", {"cider": cider}))
    with pytest.raises(OSError), TrackedRun.start(uri, "intertitle", "third", tags=tags):
        raise OSError("no space")
    with TrackedRun.start(uri, "intertitle-retraining", "not a training"):
        pass
    (folder / "below" / "deep").mkdir(parents=True)
    return folder


def test_runs_are_listed_with_their_scores_from_any_folder_of_the_project(
    intertitle: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "below" / "deep")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "150")
    ended = intertitle("runs", "--json")
    assert f"runs: {folder}/mlflow.db" in ended.err
    lines = [line.split("│") for line in ended.out.splitlines() if "│" in line]
    shown = {line[0].strip(): [cell.strip() for cell in line[1:]] for line in lines}
    assert shown["first"][0] == "s2vt"
    # A narrow terminal continues a cell on the next line.
    assert shown["first"][-2].startswith("cider 0.50") and shown["first"][-1] == "val/beam_3"
    assert "bleu_4 0.00" in " ".join(ended.out.split())
    assert shown["third"][1] == "failed"
    runs = answer(ended)["runs"]
    assert [run["name"] for run in runs] == ["third", "second", "first"]
    assert (runs[1]["measured"], runs[1]["scores"]) == ("val/beam_12", {"cider": 0.875})
    (newest,) = answer(intertitle("runs", "--limit", 1, "--json"))["runs"]
    assert newest["name"] == "third"


def test_models_are_listed_with_their_champions(intertitle: Program, folder: Path) -> None:
    store = f"--tracking-uri=sqlite:///{folder}/mlflow.db"
    assert answer(intertitle("models", store, "--json")) == {"models": []}
    assert intertitle("promote", "first", store).code == 0
    (model,) = answer(intertitle("models", store, "--json"))["models"]
    assert model == {
        "name": "s2vt",
        "num_versions": 1,
        "champion": "1",
        "champion_run": "first",
        "challenger": None,
    }


def test_a_model_may_have_an_apostrophe_and_a_removed_run(
    intertitle: Program, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with TrackedRun.start(uri, "intertitle", "gone") as run:
        run.text("model/weights.txt", "gone")
    client = MlflowClient(uri)
    client.create_registered_model("it's")
    client.create_model_version("it's", f"{tmp_path}/model", "0" * 32)
    client.set_registered_model_alias("it's", "champion", "1")
    (model,) = answer(intertitle("models", f"--tracking-uri={uri}", "--json"))["models"]
    assert (model["name"], model["champion"], model["champion_run"]) == ("it's", "1", None)


def test_without_runs_the_lists_name_the_command_that_makes_the_first(
    intertitle: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "intertitle demo" in intertitle("runs").out
    assert "intertitle promote RUN" in intertitle("models").out
    assert list(tmp_path.iterdir()) == []


def test_recipes_are_listed_with_their_papers(intertitle: Program) -> None:
    recipes = answer(intertitle("recipes", "--json"))["recipes"]
    assert [recipe["name"] for recipe in recipes] == recipe_names()
    (attentive,) = [recipe for recipe in recipes if recipe["name"] == "attend_and_tell"]
    assert attentive["text"].startswith('Xu et al. 2015, "Show, Attend and Tell"')


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_described_with_all_its_settings(name: str, intertitle: Program) -> None:
    described = answer(intertitle("recipes", name, "--json"))
    settings = {setting["name"]: setting for setting in described["settings"]}
    expected = flatten(load_recipe(name))
    del expected["name"], expected["model.kind"]
    assert {key: setting["value"] for key, setting in settings.items()} == expected
    assert settings["search.beam_size"]["default"] == 3
    assert {"nats_per_token", "cider"} < set(settings["training.monitor"]["allowed"])
    assert all(setting["meaning"] for setting in settings.values())
    assert "seconds" in settings["training.step_timeout_s"]["meaning"]
    assert set(Recipe.model_fields) - {"name"} == {key.partition(".")[0] for key in settings}


def test_a_recipe_of_a_file_is_described(intertitle: Program, tmp_path: Path) -> None:
    file = resources.files("intertitle.training") / "recipes" / "s2vt.toml"
    own = tmp_path / "mine.toml"
    own.write_text(f"# A recipe of\n# my own.\n\n{file.read_text('utf-8')}", "utf-8")
    described = answer(intertitle("recipes", own, "--json"))
    assert described["name"] == "mine"
    assert described["text"].startswith("A recipe of my own.")


def test_an_unknown_recipe_is_named(intertitle: Program) -> None:
    ended = intertitle("recipes", "s2v")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("intertitle: recipe: 's2v', allowed: attend_and_tell, ")


def test_backbones_are_listed_with_their_sizes(intertitle: Program) -> None:
    rows = answer(intertitle("backbones", "--json"))["backbones"]
    names = [row["backbone"].partition(":")[0] for row in rows]
    assert names == FAMILIES.names()
    assert {"timm", "torchvision", "open_clip", "onnx"} < {*names}
    assert len({row["description"] for row in rows}) == len(rows)
    spec = backbone_spec("efficientnet_lite1", "grid")
    assert rows[1]["size"] == f"{spec.size}²"
    assert rows[1]["grid"] == f"{spec.shape[0]} × {spec.shape[1]}"
