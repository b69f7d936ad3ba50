"""The command line, as a person and as a script meets it."""

import errno
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from intertitle.jobs import console
from intertitle.jobs.commands import COMMANDS
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.errors import JobError
from intertitle.training.runs import train as train_module
from tests.jobs.waits import Output
from tests.training.metric_names import ALL_METRICS

TINY = [
    f"--set={setting}"
    for setting in (
        "model.embedding_size=8",
        "model.hidden_size=8",
        "training.epochs=1",
        "training.batch_tokens=200",
        "search.max_tokens=8",
    )
]


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_command_explains_itself(intertitle: Callable[..., Any], command: str | None) -> None:
    ended = intertitle(*([command] if command else []), "--help")
    assert ended.code == 0
    assert f"intertitle {command or ''}".strip() in ended.out
    for name in [] if command else COMMANDS:
        assert name in ended.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_the_program_says_of_a_command_what_its_own_says(name: str) -> None:
    own = inspect.cleandoc(COMMANDS[name].load().help).partition("\n\n")[0]
    assert COMMANDS[name].help == own


def test_the_installed_program_is_this_one() -> None:
    program = Path(sys.executable).with_name("intertitle")
    ended = subprocess.run([program, "train", "s2v"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train"], "--corpus"),
        (["train", "s2v", "--corpus", "c", "--features", "f"], "recipe: 's2v', allowed: "),
        (["train", "s2vt", "--corpus", "gone", "--features", "f"], "gone: not a corpus"),
        (
            ["train", "s2vt", "--corpus", "c", "--features", "f", "--set", "training.epochs=0"],
            "s2vt: training.epochs: 0: ",
        ),
        (["train", "s2vt", "--resume", "first"], "--resume"),
        (["evaluate", "first", "--consensus", "0.3", "--top-k", "5"], "--consensus: allowed only "),
        (["predict", "first", "-", "--no-sample", "--temperature", "2"], "--no-sample: "),
        (["train", "--resume", "first", "--set", "model.dropout=0"], "'model.dropout=0'"),
        (["train", "--resume", "first", "--set", "training.epochs=x"], "whole number"),
        (["train", "s2vt", "--like", "first"], "--like"),
        (["train", "--like", "first"], "run 'first': there are no runs yet at "),
        (["train", "--resume", "first"], "run 'first': there are no runs yet at "),
        (["evaluate", "first"], "run 'first': there are no runs yet at "),
        (["predict", "first", "film.mp4"], "run 'first': there are no runs yet at "),
        (["precompute", "gone", "--out", "f"], "gone: not a corpus"),
        (["precompute", "gone", "--out", "f", "--frames", "2", "--fps", "1"], "only one"),
        (["import", "imagenet", "--out", "c"], "import: 'imagenet', allowed: "),
        (["import", "flickr8k", "--out", "c"], "takes a SOURCE folder, got none"),
    ],
)
def test_a_mistake_ends_in_one_line_and_exit_code_2(
    intertitle: Callable[..., Any],
    ray_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ended = intertitle(*arguments)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert line.startswith("intertitle: ")
    assert named in line
    assert ended.out == ""
    assert list(tmp_path.iterdir()) == []


# Of a captioner.
MEASURED = {*ALL_METRICS, "nats_per_token", "perplexity", "search_errors"}


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (JobError("training failed: disk full"), 1, ["intertitle: training failed: disk full"]),
        # The machine's fault, so that a scheduler tries again; the path's is the user's to mend.
        (
            OSError(errno.ESTALE, "Stale file handle", "f/a.arrow"),
            1,
            ["intertitle: f/a.arrow: Stale file handle"],
        ),
        (PermissionError(errno.EACCES, "denied", "f"), 2, ["intertitle: f: denied"]),
        (KeyboardInterrupt(), 130, ["intertitle: stopped"]),
    ],
)
def test_a_job_that_could_not_be_finished_ends_without_a_traceback(
    intertitle: Callable[..., Any],
    ray_cluster: None,
    monkeypatch: pytest.MonkeyPatch,
    clips: Path,
    error: BaseException,
    code: int,
    lines: list[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(train_module, "train", fail)
    ended = intertitle("train", "s2vt", "--corpus", clips, "--features", "f")
    assert ended.code == code
    assert ended.err.splitlines() == lines


def test_a_run_is_trained_then_measured_then_used_by_its_name_and_no_wait_is_silent(
    intertitle: Callable[..., Any],
    clips: Path,
    clip_features: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracking = f"--tracking-uri=sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setattr(console, "SHORT_S", 0.5)
    monkeypatch.delenv("CI", raising=False)

    def run(*arguments: object, is_terminal: bool = False) -> dict[str, Any]:
        output = Output(is_terminal)
        for name in ("ERRORS", "OUTPUT"):
            shown = Console(file=output, force_terminal=is_terminal, width=80)
            monkeypatch.setattr(console, name, shown)
        ended = intertitle(*arguments, tracking, "--json")
        assert ended.code == 0, ended.err
        assert output.unnamed_waits() == []
        answer: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
        return answer

    data = ["--corpus", clips, "--features", clip_features]
    kept = ["--checkpoints", tmp_path / "checkpoints", "--name", "tiny"]
    trained = run("train", "s2vt", *data, *kept, *TINY)
    assert trained["name"] == "tiny"
    assert set(trained["metrics"]) == MEASURED

    measured = run("evaluate", "tiny", "--beam", 1, "--split", "train", "--by", "kind")
    (part,) = measured["slices"]
    assert (part["value"], part["num_examples"]) == ("video", measured["num_examples"])
    assert part["scores"]["cider"]["value"] == measured["metrics"]["cider"]
    assert (measured["run_id"], measured["split"]) == (trained["run_id"], "train")
    assert measured["num_examples"] == len(Corpus(clips).examples("train"))
    assert set(measured["metrics"]) == MEASURED

    corpus = Corpus(clips)
    film = corpus.locate(corpus.items()[0])
    (seen,) = run("predict", trained["run_id"], film)["results"]
    assert seen.keys() == {"input", "text", "score"}
    assert (seen["input"], type(seen["text"])) == (str(film), str)
    assert seen["score"] < 0

    again = run("train", "--like", "tiny", *kept[:2], "--name", "again", is_terminal=True)
    assert again["run_id"] != trained["run_id"]
    assert again["metrics"] == trained["metrics"]

    together = run("evaluate", "tiny", "--ensemble", "again", is_terminal=True)
    assert together["metrics"] == pytest.approx(trained["metrics"])
    for is_terminal in (False, True):
        compared = run("compare", "tiny", "again", is_terminal=is_terminal)
        assert [one["name"] for one in compared["runs"]] == ["tiny", "again"]
    assert intertitle("evaluate", "tiny", "--ensemble", "tiny", tracking).code == 2
