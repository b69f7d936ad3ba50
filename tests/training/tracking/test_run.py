"""Runs, written to and read from a real MLflow store."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.environment import git_commit
from intertitle.training.tracking.inputs import DataInput
from intertitle.training.tracking.run import TrackedRun, reopen
from intertitle.training.tracking.store import client as store_client
from intertitle.training.tracking.store.client import (
    RunRef,
    default_tracking_uri,
    download,
    params,
    resolve_run,
)
from intertitle.training.tracking.store.local_runs import find_run

# `mlflow` is imported inside the tests, after `tracking`, which turns its telemetry off.


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all: MLflow takes seconds to create a database."""
    return f"sqlite:///{tmp_path_factory.mktemp('a store')}/mlflow.db"


def client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def read(uri: str, run_id: str):
    return client(uri).get_run(run_id)


def test_a_run_holds_all_it_was_given(uri: str, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("weights")
    given = {"recipe": "s2vt", "lr": 1e-3, "tied": True, "layers": [1, 2], "long": "x" * 9000}
    inputs = [
        DataInput("corpus", "corpora/msvd", "a" * 64, "training"),
        DataInput("features", "s3://bucket/features", "b" * 64, "training"),
    ]
    with TrackedRun.start(uri, "all", "whole", given, {"team": "film"}, inputs) as run:
        assert read(uri, run.run_id).info.status == "RUNNING"
        run.metrics({"train/nats_per_token": 2.5, "val/cider": 0.4}, step=1)
        run.metrics({"train/nats_per_token": 2.0, "val/cider": 0.5}, step=2)
        run.table("samples/val", [{"key": "v1", "said": "a man"}, {"key": "v2", "wanted": "dogs"}])
        run.figure("plots/empty", Figure())
        run.folder(tmp_path, "checkpoint")
        run.text("config.toml", "beam_size = 5\n")
        run.environment()

    seen = read(uri, run.run_id)
    assert (seen.info.status, seen.info.run_name) == ("FINISHED", run.name)
    assert seen.data.metrics == {"train/nats_per_token": 2.0, "val/cider": 0.5}
    history = client(uri).get_metric_history(run.run_id, "val/cider")
    assert [(point.step, point.value) for point in history] == [(1, 0.4), (2, 0.5)]
    tags = seen.data.tags
    assert tags["team"] == "film"
    assert tags["fingerprint.corpus"] == "a" * 64
    assert tags["python"] == sys.version.split()[0]
    assert "error" not in tags

    corpus, features = sorted(seen.inputs.dataset_inputs, key=lambda found: found.dataset.name)
    assert corpus.dataset.digest == "a" * 36
    assert json.loads(corpus.dataset.source)["uri"] == str(Path("corpora/msvd").absolute())
    assert features.dataset.source_type == "s3"
    assert {tag.value for tag in corpus.tags} == {"training"}

    assert len(seen.data.params["long"]) == 6000
    assert params(run.ref) == {
        "recipe": "s2vt",
        "lr": "0.001",
        "tied": "true",
        "layers": "[1, 2]",
        "long": "x" * 9000,
    }
    assert (download(run.ref, "checkpoint") / "model.txt").read_text() == "weights"
    environment = download(run.ref, "environment") / "packages.txt"
    packages = environment.read_text().splitlines()
    assert any(line.startswith("mlflow==") for line in packages)
    assert packages == sorted(packages, key=str.lower)
    assert (download(run.ref, "plots") / "empty.png").read_bytes().startswith(b"\x89PNG")
    table = json.loads((download(run.ref, "samples") / "val.json").read_text())
    assert table == {
        "columns": ["key", "said", "wanted"],
        "data": [["v1", "a man", None], ["v2", None, "dogs"]],
    }


def test_artifacts_lie_beside_the_database_wherever_the_process_runs(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with TrackedRun.start(uri, "elsewhere", "beside") as run:
        run.text("note.txt", "here")
    beside = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    assert (beside / run.run_id / "artifacts" / "note.txt").read_text() == "here"
    assert not list(tmp_path.iterdir())


def test_values_that_are_no_numbers_are_left_out_and_told(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with TrackedRun.start(uri, "nan", "nan") as run, caplog.at_level(logging.WARNING):
        run.metrics({"loss": float("nan"), "perplexity": float("inf"), "cider": 0.5}, step=3)
    seen = read(uri, run.run_id)
    assert seen.data.metrics == {"cider": 0.5}
    assert seen.data.tags["non_finite.loss"] == "nan at step 3"
    assert "perplexity is inf at step 3" in caplog.text


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("no\nway"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_an_exception_ends_the_run_with_a_reason(
    uri: str, error: BaseException, status: str
) -> None:
    with (
        pytest.raises(type(error)),
        TrackedRun.start(uri, "broken", "broken") as run,
    ):
        raise error
    seen = read(uri, run.run_id)
    assert seen.info.status == status
    assert seen.data.tags["error"] == f"{type(error).__name__}: {' '.join(str(error).split())}"


def test_a_refusal_at_the_end_does_not_hide_the_error_that_ended_the_job(uri: str) -> None:
    with (
        pytest.raises(ValueError, match="training broke") as caught,
        TrackedRun.start(uri, "broken", "cut off") as run,
    ):
        client(uri).delete_run(run.run_id)
        raise ValueError("training broke")
    assert "cut off stays RUNNING" in caught.value.__notes__[0]


def test_a_finished_run_is_reopened_and_keeps_its_status(uri: str) -> None:
    with TrackedRun.start(uri, "again", "trained") as run:
        run.metrics({"val/cider": 0.5}, step=1)
    ended = read(uri, run.run_id).info.end_time
    with pytest.raises(ValueError, match="broke"), reopen(run.ref) as again:
        again.metrics({"test/beam_5/cider": 0.6}, step=0)
        raise ValueError("the evaluation broke")
    seen = read(uri, run.run_id)
    assert seen.data.metrics == {"val/cider": 0.5, "test/beam_5/cider": 0.6}
    assert (seen.info.status, seen.info.end_time) == ("FINISHED", ended)


def resolved(spec: str, uri: str) -> RunRef:
    """A run as it is found without MLflow, and as MLflow finds it."""
    found = resolve_run(spec, uri)
    assert find_run(Path(uri.removeprefix("sqlite:///")), spec) == (found.run_id, found.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_client, "find_run", lambda *_: None)
        assert resolve_run(spec, uri) == found
    return found


def test_a_run_is_found_by_id_name_and_model(uri: str) -> None:
    with TrackedRun.start(uri, "find", "it's mine") as run:
        pass
    expected = RunRef(run.run_id, "it's mine", uri)
    mlflow = client(uri)
    mlflow.create_registered_model("captions")
    mlflow.create_model_version("captions", "file:///nowhere", run_id=run.run_id)
    mlflow.set_registered_model_alias("captions", "champion", "1")
    for spec in (run.run_id, "it's mine", "models:/captions@champion", "models:/captions/1"):
        assert resolved(spec, uri) == expected


def test_of_runs_with_one_name_the_newest_finished_is_meant(uri: str) -> None:
    def start(experiment: str) -> TrackedRun:
        return TrackedRun.start(uri, experiment, "twin")

    with start("first") as old:
        pass
    assert resolved("twin", uri) == old.ref
    with start("second") as new:
        pass
    running = start("first")
    assert resolved("twin", uri) == new.ref
    client(uri).delete_run(new.run_id)
    assert resolved("twin", uri) == old.ref
    client(uri).delete_run(old.run_id)
    assert resolved("twin", uri) == running.ref
    with pytest.raises(UserError, match="not found"):
        resolve_run(old.run_id, uri)
    running.finish("KILLED", "stopped")


@pytest.mark.parametrize(
    "spec", ["nobody", "f" * 32, "models:/none@champion", "models:/none/x", "models:/none", "'\""]
)
def test_a_run_that_is_not_there_is_one_line(uri: str, spec: str) -> None:
    with TrackedRun.start(uri, "hint", "newest"):
        pass
    with pytest.raises(UserError) as caught:
        resolve_run(spec, uri)
    message = str(caught.value)
    assert repr(spec) in message
    assert "\n" not in message
    if not spec.startswith("models:"):
        assert uri in message
        assert "the newest are: newest" in message


def test_looking_for_a_run_creates_no_database(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs yet"):
        resolve_run("anything", f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_a_run_has_not_is_named_with_those_it_has(uri: str) -> None:
    with TrackedRun.start(uri, "folders", "bare") as run:
        run.text("config.toml", "")
    with pytest.raises(UserError, match=r"bare: no folder 'checkpoint'; it has: config\.toml"):
        download(run.ref, "checkpoint")


@pytest.mark.parametrize(
    "bad", ["http://user:secret@127.0.0.1:9", "foo://x", "sqlite:////proc/none/mlflow.db"]
)
def test_a_store_that_does_not_answer_is_one_line(bad: str) -> None:
    with pytest.raises(UserError) as caught:
        TrackedRun.start(bad, "x", "x")
    message = str(caught.value)
    assert message.startswith(f"MLflow at {bad.replace('secret', '***')}: ")
    assert "\n" not in message and "secret" not in message
    # A model that an earlier test serves may be looking at its alias just now.
    deadline = time.monotonic() + 30
    while "MLFLOW_HTTP_REQUEST_MAX_RETRIES" in os.environ:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_mlflow_refuses_fails_the_run_at_the_start(uri: str) -> None:
    with pytest.raises(UserError, match="bad\\*name"):
        TrackedRun.start(uri, "refused", "refused", {"bad*name": 1})
    with pytest.raises(ValueError, match="share a name"):
        twice = [DataInput("corpus", "a", "1", "training"), DataInput("corpus", "b", "2", "test")]
        TrackedRun.start(uri, "refused", "never made", inputs=twice)
    assert read(uri, resolve_run("refused", uri).run_id).info.status == "FAILED"


def test_a_deleted_experiment_is_named(uri: str) -> None:
    mlflow = client(uri)
    mlflow.delete_experiment(mlflow.create_experiment("gone"))
    with pytest.raises(UserError, match=r"'gone' .* is deleted"):
        TrackedRun.start(uri, "gone", "x")


def test_the_store_is_the_environments_or_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    # As git finds its folder: the nearest one, from here upwards.
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/a/b/mlflow.db"
    (tmp_path / "mlflow.db").touch()
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    (tmp_path / "a" / "mlflow.db").touch()
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/a/mlflow.db"
    if os.getuid() == 0:
        os.chown(tmp_path / "a" / "mlflow.db", 12345, -1)
        assert default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert default_tracking_uri() == "http://mlflow:5000"


def test_importing_is_light_and_init_turns_telemetry_off() -> None:
    code = (
        "import os, sys, intertitle, intertitle.training.tracking.run; intertitle.init(); "
        "print('mlflow' in sys.modules, os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    )
    environment = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == ["False", "true"]


def test_the_commit_of_a_tracked_file(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("1")

    def git(*words: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *author, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    assert git_commit(file) is None
    git("add", "model.py")
    git("commit", "-m", "one")
    assert git_commit(file) == git("rev-parse", "HEAD")
    file.write_text("2")
    assert git_commit(file) == git("rev-parse", "HEAD") + "-dirty"
    stranger = tmp_path / "other.py"
    stranger.write_text("")
    assert git_commit(stranger) is None
