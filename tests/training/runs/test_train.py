"""One training is one run of MLflow, with all that it was and became."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.pipeline.feature_store.gc import collect
from intertitle.pipeline.storage.format_version import VERSION_FIELD
from intertitle.pipeline.storage.paths import as_path
from intertitle.training.config.recipe import flatten
from intertitle.training.data.data_ref import DataRef
from intertitle.training.evaluation.phase import Phase
from intertitle.training.inference.model_bundle import TrainedModel, load_trained
from intertitle.training.runs.evaluate_run import evaluate_run
from intertitle.training.runs.job_artifact import JOB_FORMAT
from intertitle.training.runs.train import resume, train
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import download, params, resolve_run
from intertitle.training.trainer.events import EpochReport, Warned
from tests.training.conftest import (
    DIM,
    Trained,
    coloured_things,
    features_of,
    open_data_ref,
    small_recipe,
    write_data,
    write_features,
)
from tests.training.metric_names import ALL_METRICS


def client_of(tracking_uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


def client(trained: Trained) -> Any:
    return client_of(trained.tracking_uri)


def logged(trained: Trained) -> Any:
    return client(trained).get_run(trained.result.run.run_id)


def test_a_training_ends_as_a_finished_run_with_its_settings(trained: Trained) -> None:
    run = logged(trained)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "first")
    found = params(trained.result.run)
    given = {
        **flatten(trained.recipe),
        "workers": 1,
        "vocabulary": 4 + 8 + 3,
        "source_vocabulary": 0,
        "feature_dim": DIM,
        "num_parameters": sum(
            p.numel() for p in load_trained(trained.result.run).model.parameters()
        ),
        "device": "cpu",
        "precision": "float32",
    }
    assert found.keys() == given.keys()
    for name, value in given.items():
        assert found[name] == (value if isinstance(value, str) else json.dumps(value)), name
    assert run.data.tags["recipe"] == "s2vt"
    assert client(trained).list_artifacts(run.info.run_id, "environment")


def test_a_run_names_the_data_it_learned_from(trained: Trained, things: DataRef) -> None:
    run = logged(trained)
    assert run.data.tags["fingerprint.corpus"] == things.corpus_fingerprint
    assert run.data.tags["fingerprint.features"] == features_of(things).snapshot
    sources = {d.dataset.name: d.dataset.source for d in run.inputs.dataset_inputs}
    assert json.loads(sources["corpus"])["uri"] == things.corpus
    assert json.loads(sources["features"])["uri"] == features_of(things).path
    profiles = {d.dataset.name: json.loads(d.dataset.profile) for d in run.inputs.dataset_inputs}
    counted = {"items": 60, "references": 90, "train_examples": 48, "val_examples": 12}
    assert profiles["corpus"] == counted
    assert profiles["features"]["items"] == 60
    schemas = {d.dataset.name: json.loads(d.dataset.schema) for d in run.inputs.dataset_inputs}
    assert {"name": "features", "type": f"float32 [frames, {DIM}]"} in schemas["features"][
        "mlflow_colspec"
    ]


def test_each_phase_without_steps_is_named(trained: Trained) -> None:
    phases = [report for report in trained.reports if isinstance(report, Phase)]
    assert [phase.title for phase in phases if phase.fraction is None] == [
        "reading the corpus and the features",
        "starting 1 worker",
        "validating",
        "validating",
        "storing the model",
        "computing likelihoods of val",
        "generating predictions for val",
        "scoring 12 predictions",
        "logging the evaluation",
        "writing the report",
    ]
    assert [phase.fraction for phase in phases if phase.fraction is not None][-1] == 1
    epochs = [report for report in trained.reports if isinstance(report, EpochReport)]
    assert {epoch.search for epoch in epochs} == {"greedy search"}
    assert trained.result.evaluation.search.startswith("beam search of ")


def test_the_description_of_a_run_has_its_scores(trained: Trained) -> None:
    text = logged(trained).data.tags["mlflow.note.content"]
    assert "12 of val" in text and "| cider |" in text
    assert f"intertitle predict {trained.result.run.name}" in text


def test_a_run_has_a_page_of_its_result(trained: Trained) -> None:
    run_id = trained.result.run.run_id
    page = Path(client(trained).download_artifacts(run_id, "report.html")).read_text("utf-8")
    for heading in ("Scores", "Errors by word", "Learning curves"):
        assert f"<h2>{heading}</h2>" in page
    assert page.count("data:image/png;base64,") == 1


def test_every_epoch_leaves_its_figures_at_its_step(trained: Trained) -> None:
    epochs = [report for report in trained.reports if isinstance(report, EpochReport)]
    assert [epoch.epoch for epoch in epochs] == [1, 2]
    assert {"train/nats_per_token", "val/nats_per_token", "val/cider"} <= set(epochs[0].figures)
    for name in epochs[0].figures:
        history = client(trained).get_metric_history(trained.result.run.run_id, name)
        expected = [(epoch.step, pytest.approx(epoch.figures[name])) for epoch in epochs]
        assert [(point.step, point.value) for point in history] == expected
    assert trained.result.num_epochs == 2


def test_every_chart_of_a_run_is_a_curve(trained: Trained) -> None:
    """What has a single value is a tag."""
    run_id = trained.result.run.run_id
    names = {name for name in logged(trained).data.metrics if not name.startswith("system/")}
    assert names >= {"train/nats_per_token", "val/cider"}
    assert {len(client(trained).get_metric_history(run_id, name)) for name in names} == {2}
    assert logged(trained).data.tags["best_epoch"] == str(trained.result.best_epoch)


def test_a_run_keeps_what_the_model_said_beside_what_people_said(trained: Trained) -> None:
    run_id = trained.result.run.run_id
    table = json.loads(
        Path(client(trained).download_artifacts(run_id, "samples_by_epoch.json")).read_text()
    )
    columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    epochs = [report for report in trained.reports if isinstance(report, EpochReport)]
    said = [sample.hypothesis for epoch in epochs for sample in epoch.samples]
    assert list(columns["hypothesis"]) == said
    assert list(columns["epoch"]) == [e.epoch for e in epochs for _ in e.samples]
    assert columns["references"][0] == "A red ball."


def test_the_best_weights_are_scored_with_every_metric_and_the_recipes_beam(
    trained: Trained,
) -> None:
    evaluation = trained.result.evaluation
    scores = evaluation.scores.values
    assert set(scores) == {*ALL_METRICS, "nats_per_token", "perplexity", "search_errors"}
    assert (evaluation.split, len(evaluation.samples)) == ("val", 12)
    tags = logged(trained).data.tags
    shown = {name: float(tags[f"eval/val/beam_3/{name}"]) for name in scores}
    assert shown == pytest.approx(scores, abs=1e-4)
    (folder,) = client(trained).list_artifacts(trained.result.run.run_id, "eval/val/beam_3")
    kept = download(trained.result.run, folder.path)
    how = json.loads((kept / "how.json").read_text())
    assert how["search"] == trained.recipe.search.model_dump()
    assert how["signatures"].keys() == scores.keys()
    assert (how["num_examples"], how["num_left_out"]) == (12, 0)
    table = json.loads((kept / "scores.json").read_text())
    assert [row[0] for row in table["data"]] == list(scores)
    assert (kept / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_keeps_its_learning_curves_as_a_picture(trained: Trained) -> None:
    artifacts = {a.path for a in client(trained).list_artifacts(trained.result.run.run_id)}
    assert "learning_curves.png" in artifacts


def test_the_model_of_a_run_says_what_was_scored(trained: Trained, things: DataRef) -> None:
    model = load_trained(resolve_run("first", trained.tracking_uri))
    assert isinstance(model, TrainedModel)
    assert (model.recipe, model.data) == (trained.recipe, things)
    evaluation = evaluate_run(trained.result.run, split="val")
    assert evaluation.samples == trained.result.evaluation.samples


def test_another_evaluation_is_added_and_overwrites_nothing(trained: Trained) -> None:
    before = logged(trained)
    evaluation = evaluate_run(trained.result.run, split="train", beam_size=2)
    assert (evaluation.split, len(evaluation.samples)) == ("train", 48)
    after = logged(trained)
    added = {f"eval/train/beam_2/{name}" for name in evaluation.scores.values}
    earlier, later = (
        {name: text for name, text in run.data.tags.items() if name.startswith("eval/")}
        for run in (before, after)
    )
    assert {*later} == {*earlier, *added}
    assert earlier.items() <= later.items()
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    artifacts = client(trained).list_artifacts(trained.result.run.run_id, "eval")
    assert [artifact.path for artifact in artifacts] == ["eval/train", "eval/val"]


def test_a_run_is_measured_on_other_data_of_the_same_make(trained: Trained, tmp_path: Path) -> None:
    other = write_data(tmp_path, coloured_things(10, seed=1), quarantined=("item 5",))
    evaluation = evaluate_run(
        trained.result.run,
        split="val",
        beam_size=1,
        corpus=Path(other.corpus),
        features=Path(features_of(other).path),
    )
    assert [sample.id for sample in evaluation.samples] == ["about-item 0"]
    assert evaluation.num_left_out == 1
    # Under a name that no one takes for a score of the run's own corpus.
    tags = logged(trained).data.tags
    assert f"eval/corpus_{other.corpus_fingerprint[:8]}/val/beam_1/cider" in tags
    assert "eval/val/beam_1/cider" not in tags


def test_a_run_is_not_measured_on_features_of_another_make(
    trained: Trained, tmp_path: Path
) -> None:
    other = write_features(tmp_path / "other", coloured_things(60), weights="f")
    with pytest.raises(UserError, match=r"other: features are .*fff.*the model was trained on"):
        evaluate_run(trained.result.run, split="val", features=other)


def test_data_that_cannot_be_trained_on_is_refused_before_there_is_a_run(
    things: DataRef, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    no_val = write_data(tmp_path, [s for s in coloured_things(20) if s.split == "train"])
    for data, named in (
        (no_val, "'val'"),
        (replace(things, corpus=f"{tmp_path}/nowhere"), "nowhere: not a corpus"),
        (with_features(things, path=f"{tmp_path}/nothing"), "nothing: not a feature store"),
    ):
        with pytest.raises(UserError, match=named):
            train(
                small_recipe(),
                Path(data.corpus),
                Path(features_of(data).path),
                workers=1,
                tracking_uri=uri,
                checkpoints=tmp_path / "checkpoints",
            )
    assert not (tmp_path / "mlflow.db").exists()


def test_what_a_training_ignores_is_reported_and_kept_with_the_run(
    ray_cluster: None, things: DataRef, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    reports: list[object] = []

    def stop(run: object) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        train(
            small_recipe("s2vt", "tokenizer.max_tokens=2"),
            Path(things.corpus),
            Path(features_of(things).path),
            workers=1,
            tracking_uri=uri,
            checkpoints=tmp_path / "checkpoints",
            name="stopped",
            on_start=stop,
            on_report=reports.append,
        )
    warnings = [report.text for report in reports if isinstance(report, Warned)]
    # Each of the 72 and 18 captions of the two splits is longer than two tokens.
    assert ["72 of 72" in warnings[0], "18 of 18" in warnings[1]] == [True, True]
    run = resolve_run("stopped", uri)
    assert client_of(uri).get_run(run.run_id).data.tags["warnings"] == "; ".join(warnings)


def test_a_run_that_was_stopped_goes_on_with_the_data_it_began_with(
    ray_cluster: None, tmp_path: Path, trains_in_process: None
) -> None:
    """Where the corpus was overwritten, the store has another snapshot, and `gc` has run."""
    data = write_data(tmp_path, coloured_things(40))
    store = Path(features_of(data).path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def stop(report: object) -> None:
        if isinstance(report, EpochReport):
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        train(
            small_recipe("s2vt", "training.epochs=2", "training.monitor=nats_per_token"),
            Path(data.corpus),
            store,
            workers=1,
            tracking_uri=uri,
            checkpoints=tmp_path / "checkpoints",
            name="stopped",
            on_report=stop,
        )
    write_data(tmp_path / "new", coloured_things(60, seed=7))
    shutil.copytree(tmp_path / "new" / "corpus", data.corpus, dirs_exist_ok=True)
    write_features(tmp_path / "made", coloured_things(60, seed=7), weights="1")
    shutil.copytree(tmp_path / "made", store, dirs_exist_ok=True)
    collect(as_path(store))
    assert open_data_ref(data.corpus, store, "pooled") != data

    run = resume("stopped", tracking_uri=uri, changes={}).run
    kept = load_trained(run).data
    assert (kept.corpus_fingerprint, kept.features) == (data.corpus_fingerprint, data.features)
    assert not [*store.glob("pins/*"), *(tmp_path / "corpus").glob("pins/*")]


def with_features(data: DataRef, **changes: str) -> DataRef:
    return replace(data, features=(replace(features_of(data), **changes),))


@pytest.mark.parametrize("field", ["corpus_fingerprint", "snapshot", "features_fingerprint"])
def test_a_run_is_not_resumed_on_data_that_has_changed(
    trained: Trained, things: DataRef, field: str
) -> None:
    told = {
        "corpus_fingerprint": "corpus_fingerprint was another",
        "snapshot": "has no snapshot another",
        "features_fingerprint": "the model was trained on another",
    }[field]
    changed = replace(things, corpus_fingerprint="another")
    if field != "corpus_fingerprint":
        changed = with_features(things, **{field.removeprefix("features_"): "another"})
    job = {
        VERSION_FIELD: JOB_FORMAT.version,
        "recipe": trained.recipe.model_dump(),
        "vocabularies": "{}",
        "data": asdict(changed),
        "checkpoints": str(trained.checkpoints),
        "workers": 1,
        "init_from": None,
        "gpus": False,
    }
    with TrackedRun.start(trained.tracking_uri, "changed", field) as run:
        run.text("job/job.json", json.dumps(job))
    with pytest.raises(UserError, match=told):
        resume(field, tracking_uri=trained.tracking_uri, changes={})


def test_a_run_that_is_not_there_is_neither_resumed_nor_measured(trained: Trained) -> None:
    with pytest.raises(UserError, match=r"'nobody'.*not found"):
        resume("nobody", tracking_uri=trained.tracking_uri, changes={})
