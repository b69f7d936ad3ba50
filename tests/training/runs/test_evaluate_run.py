"""What an evaluation leaves in its run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intertitle.pipeline.corpus import Corpus, Example, write_corpus
from intertitle.training.config.recipe import Recipe
from intertitle.training.data.data_ref import Data, DataRef
from intertitle.training.data.texts import texts_of
from intertitle.training.data.vocab import build_vocabs
from intertitle.training.inference import attention_maps
from intertitle.training.inference.attention_plot import attention_over_text
from intertitle.training.inference.model_bundle import TrainedModel
from intertitle.training.models.build import task_of
from intertitle.training.reports.evaluations import find_newest
from intertitle.training.runs.evaluate_run import changed_settings, measure
from intertitle.training.runs.log_evaluation import NUM_EXPLAINED, log_evaluation
from intertitle.training.tracking.run import TrackedRun
from tests.training.conftest import DIM, Shown, open_data_ref, small_recipe, untrained, write_data


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> DataRef:
    folder = tmp_path_factory.mktemp("pairs")
    examples = [
        Example(f"{split}/{n}", split, None, f"ein Ball {n % 3}", (f"a ball {n % 3}",))
        for split in ("train", "val")
        for n in range(40)
    ]
    write_corpus(folder, [], examples)
    return open_data_ref(folder, None, "nothing")


def untrained_on(recipe: Recipe, data: DataRef) -> TrainedModel:
    """A model of the data's words that has learned nothing."""
    words = build_vocabs(recipe, *texts_of(Corpus(data.corpus), "train", task_of(recipe.model)))
    return untrained(recipe, data, words)


def translator(recipe_name: str, pairs: DataRef) -> TrainedModel:
    settings = ("tokenizer.kind=words", "source_tokenizer.kind=words")
    return untrained_on(small_recipe(recipe_name, *settings), pairs)


def logged(client: Any, run_id: str, path: str) -> list[str]:
    """The files below a folder of a run."""
    found = client.list_artifacts(run_id, path)
    below = [name for one in found if one.is_dir for name in logged(client, run_id, one.path)]
    return [one.path for one in found if not one.is_dir] + below


def test_attention_maps_are_logged_for_some_samples(
    pairs: DataRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    told: list[str] = []

    def draw(source: Any, words: list[str], weights: Any) -> Any:
        told.append(" ".join(words[:-1]))
        return attention_over_text(source, words, weights)

    monkeypatch.setattr(attention_maps, "attention_over_text", draw)
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def evaluate(recipe: str, predictions: str | None = None) -> tuple[Any, list[str]]:
        """An evaluation, and the pictures that it left."""
        trained = translator(recipe, pairs).with_search(method="sample", seed=3)
        search = trained.recipe.search
        evaluation = measure(trained, Data(pairs), "val", search)
        with TrackedRun.start(uri, "scoring", "run") as run:
            log_evaluation(run, trained, Data(pairs), evaluation, search, predictions=predictions)
        files = logged(MlflowClient(uri), run.run_id, "eval")
        assert any(file.endswith("/samples.json") for file in files)
        return evaluation, [file for file in files if "/attention/" in file]

    evaluation, pictures = evaluate("seq2seq_attention")
    # Twenty of the forty are shown, every fourth of those is drawn.
    assert len(pictures) == 5 <= NUM_EXPLAINED
    assert pictures[1].endswith("/attention/2_val_8.png")
    assert told == [evaluation.samples[n].hypothesis for n in range(0, 40, 8)]
    assert len(set(told)) > 1
    assert evaluate("seq2seq_forward")[1] == []
    assert evaluate("seq2seq_attention", "somebody's")[1] == []


def test_labels_of_frames_have_scores_of_segments_and_a_picture_over_time(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    films = [
        Shown(f"film {n}", split, np.ones((4, DIM), np.float32), ("rest", "pour", "stir", "rest"))
        for n, split in enumerate(("train", "val", "val"))
    ]
    data = write_data(tmp_path, films)
    trained = untrained_on(small_recipe("frame_tagger", "evaluation.background=rest"), data)
    search = trained.recipe.search
    evaluation = measure(trained, Data(data), "val", search)
    assert evaluation.scores.signatures["f1_25"] == "f1_25|unit:video|background:rest"
    assert [sample.labels for sample in evaluation.samples] == [
        tuple(sample.hypothesis.split(" | ")) for sample in evaluation.samples
    ]
    with TrackedRun.start(f"sqlite:///{tmp_path}/mlflow.db", "scoring", "run") as run:
        log_evaluation(run, trained, Data(data), evaluation, search)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    assert "eval/val/edit_score" in client.get_run(run.run_id).data.tags
    files = logged(client, run.run_id, "eval")
    assert sum(file.endswith("/timelines.png") for file in files) == 1


def test_unmeasured_metrics_and_truncated_texts_are_reported(
    pairs: DataRef, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    trained = translator("seq2seq_forward", pairs)
    search = trained.with_search(prefix="a ball").recipe.search
    changed = changed_settings(trained, pairs, "zh", 2)
    assert changed == {"tokenizer": "zh", "max_source_tokens": 2}
    assert changed_settings(trained, pairs, "13a", 60) == {}
    assert changed_settings(trained, replace(pairs, target_language="zh"), "auto") == {}
    evaluation = measure(trained.reading(2), Data(pairs), "val", search, "zh")
    with TrackedRun.start(uri, "scoring", "run") as run:
        log_evaluation(run, trained, Data(pairs), evaluation, search, changed=changed)
    client = MlflowClient(uri)
    name = "eval/val/beam_3_prefix_a-ball_tokenizer_zh_max_source_tokens_2"
    found = client.get_run(run.run_id).data
    scored = {tag.rpartition("/")[0] for tag in found.tags if tag.startswith("eval/")}
    assert scored == {name}
    not_measured = found.tags[f"{name}/not_measured"]
    assert not_measured.startswith("meteor: METEOR is for English, and the corpus states no ")
    assert "; search_errors: only a beam looks for" in not_measured
    assert found.tags[f"{name}/warnings"].startswith("40 of 40 sources of 'val' are longer than 2")

    assert find_newest(run.ref, "val", search=search) is None
    newest = find_newest(run.ref, "val")
    assert newest is not None
    how = newest.record.description
    assert how["changed"] == changed
    assert how["tokenizer"] == "zh"
    assert set(how["not_measured"]) == {"meteor", "search_errors"} and len(how["warnings"]) == 1
    assert "|tok:zh|" in how["signatures"]["sacrebleu"]


def test_the_name_of_an_evaluation_says_what_of_its_search_is_otherwise(
    pairs: DataRef, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    trained = translator("seq2seq_forward", pairs)
    search = trained.with_search(beam_size=4, consensus=0.5, prefix="a ball").recipe.search
    evaluation = measure(trained, Data(pairs), "val", search)
    with TrackedRun.start(uri, "scoring", "run") as run:
        for predictions in (None, "their list.jsonl"):
            log_evaluation(run, trained, Data(pairs), evaluation, search, predictions=predictions)
    tags = MlflowClient(uri).get_run(run.run_id).data.tags
    assert {name.rpartition("/")[0] for name in tags if name.startswith("eval/")} == {
        "eval/val/beam_4_consensus_0.5_prefix_a-ball",
        "eval/val/predictions_their-list.jsonl",
    }
