"""Wrong arguments of every command: refused by the right line before anything heavy is imported."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import intertitle as api
from intertitle.jobs.commands import COMMANDS
from intertitle.pipeline.errors import UserError

# Libraries that take a second or more to import.
HEAVY = ("torch", "ray", "mlflow", "onnxruntime", "matplotlib", "pandas", "sklearn")

WRONG = [
    ("nothing", "No such command 'nothing'"),
    ("--nothing", "No such option"),
    ("train", "train: needs a RECIPE and --corpus, or --resume RUN, or --like RUN"),
    ("train foo", "recipe: 'foo', allowed: attend_and_tell, "),
    ("train s2vt", "train: needs a RECIPE and --corpus"),
    ("train s2vt --corpus gone", "gone: not a corpus"),
    ("train s2vt --corpus gone --set training.epochs=0", "s2vt: training.epochs: 0: "),
    ("train s2vt --corpus gone --set nothing", "--set 'nothing': expected section.field=value"),
    ("train mine.toml --corpus gone", "mine.toml: no such recipe file"),
    ("train s2vt --corpus gone --workers 0", "Invalid value for '--workers'"),
    ("train s2vt --resume first", "--resume: a run goes on"),
    ("train --resume first --set model.dropout=0", "--set 'model.dropout=0': with --resume"),
    ("train --resume first", "run 'first': there are no runs yet at "),
    ("train --like first --corpus gone", "--like: a run is repeated"),
    ("train --like first", "run 'first': there are no runs yet at "),
    ("evaluate", "Missing argument"),
    ("evaluate first", "run 'first': there are no runs yet at "),
    ("evaluate first --beam 0", "search.beam_size: 0: "),
    ("evaluate first --beam 3 --top-k 5", "--beam: allowed only without --top-k"),
    ("evaluate first --top-p 2", "search.top_p: 2.0: "),
    ("evaluate first --tokenizer words", "--tokenizer: 'words', allowed: auto, "),
    ("evaluate first --by size", "--by 'size', allowed: length, source_length, kind, label, "),
    ("evaluate first --predictions gone.jsonl", "--predictions gone.jsonl: no such file"),
    ("predict", "Missing argument"),
    ("predict first photo.jpg", "run 'first': there are no runs yet at "),
    ("predict first --text a --question b", "--text, --question: one of the two"),
    ("predict first photo.jpg --explain map.doc", "ending '.doc', allowed: .png .pdf .svg"),
    ("predict first photo.jpg --out list.doc", "ending '.doc', allowed: .txt .jsonl .parquet"),
    ("predict first photo.jpg --weight 0.5", "--weight 0.5: only with --rescore"),
    ("predict first --corpus gone", "--corpus, --features: both of them"),
    ("predict first photo.jpg --nbest 0", "Invalid value for '--nbest'"),
    ("predict first photo.jpg --temperature 0", "search.temperature: 0.0: "),
    ("compare first", "two different runs or more are needed"),
    ("compare first second --out page.pdf", "--out page.pdf: a page of HTML"),
    ("compare first second", "run 'first': there are no runs yet at "),
    ("report first", "run 'first': there are no runs yet at "),
    ("report first --out page.pdf", "--out page.pdf: a page of HTML"),
    ("reproduce nothing", "table: 'nothing', allowed: "),
    ("retrain gone.toml", "gone.toml: "),
    ("schedule gone.toml --cron never", "--cron 'never': "),
    ("schedule gone.toml --cron @daily --missed no", "--missed 'no': allowed: "),
    ("promote first", "run 'first': there are no runs yet at "),
    ("rollback captions", "model 'captions': there are no models yet at "),
    ("sync gone", "gone: no such folder"),
    ("serve", "Missing argument"),
    ("precompute gone --out store", "gone: not a corpus"),
    ("precompute gone --out store --frames 2 --fps 1", "only one of them"),
    ("import imagenet --out corpus", "import: 'imagenet', allowed: "),
    ("import flickr8k --out corpus", "takes a SOURCE folder, got none"),
    ("import folder gone", "Missing option '--out'"),
    ("check gone", "gone: not a corpus"),
    ("import-features gone.npz", "Missing option"),
    ("export gone --to csv", "Missing "),
    ("inspect gone", "gone: "),
    ("gc gone", "gone: "),
    ("submit", "Missing argument"),
    ("submit --slot a/b -- intertitle demo", "--slot: 'a/b', allowed: "),
    ("jobs nothing", "No such command 'nothing'"),
    ("demo --nothing", "No such option"),
    ("recipes foo", "recipe: 'foo', allowed: attend_and_tell, "),
    ("backbones all", "unexpected extra argument"),
    ("runs --limit 0", "Invalid value for '--limit'"),
    ("models all", "unexpected extra argument"),
    ("ui --port 0", "Invalid value for '--port'"),
    ("ui", "there are no runs yet at "),
]

# Each call runs in a copy of one process, which has imported the modules of all commands.
PROGRAM = f"""
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from intertitle.jobs.cli import main
from intertitle.jobs.commands import COMMANDS

for command in COMMANDS.values():
    command.load()
for arguments in json.load(sys.stdin):
    sys.stdout.flush()
    if os.fork() == 0:
        sys.argv = ["intertitle", *arguments.split()]
        code = None
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                main()
            except SystemExit as ended:
                code = ended.code
        heavy = [name for name in {HEAVY} if name in sys.modules]
        print(json.dumps([code, out.getvalue(), err.getvalue(), heavy]), flush=True)
        os._exit(0)
    os.wait()
"""


@dataclass(frozen=True)
class Refused:
    """How a call ended: exit code, output, errors, and which heavy libraries it imported."""

    code: int
    out: str
    err: str
    heavy: list[str]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Refused]:
    """All calls in an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("COLUMNS", "300")
        patch.setenv("NO_COLOR", "1")
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM],
            input=json.dumps([call for call, _ in WRONG]),
            capture_output=True,
            text=True,
            cwd=folder,
        )
    assert done.returncode == 0, done.stderr
    assert list(Path(folder).iterdir()) == []
    results = [Refused(*json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip((call for call, _ in WRONG), results, strict=True))


@pytest.mark.parametrize(("call", "named"), WRONG)
def test_a_wrong_call_is_refused_by_its_line_and_at_once(
    call: str, named: str, refused: dict[str, Refused]
) -> None:
    ended = refused[call]
    assert (ended.code, ended.out) == (2, "")
    # A mistake in the use of an option is printed in a frame.
    assert named in " ".join(ended.err.replace("│", " ").split())
    assert ended.heavy == []


def test_every_command_is_called_wrongly() -> None:
    assert {call.split()[0] for call, _ in WRONG} >= {*COMMANDS}


@pytest.mark.parametrize("features", [None, []])
def test_a_dataset_of_pytorch_needs_a_store(features: list[str] | None, clips: Path) -> None:
    with pytest.raises(UserError, match="features: none, expected the folder or URL"):
        api.FeatureDataset(clips, features, "train")


def test_a_training_in_python_without_features_says_what_it_needs(
    clips: Path, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(UserError, match="--features: missing; this recipe sees pooled features"):
        api.train("s2vt", clips, None, tracking_uri=uri, checkpoints=tmp_path)
