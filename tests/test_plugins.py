"""The package of docs/plugins.md, built and installed, is used by the names of what it adds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^`(?P<file>[^`]+)`:\n\n```\w+\n(?P<body>.*?)^```$", re.S | re.M)
EXAMPLES = ("activitynet.py", "gist.py", "wer.py", "init_inject.py")

TRY = """
import json
import ray
from pathlib import Path
import intertitle

intertitle.init()
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
intertitle.import_dataset("rendered", out="drawn", num_clips=12)
drawn = intertitle.Corpus("drawn")
captions = {e.item_key: e.targets for e in drawn.examples()}
videos = {
    Path(item.uri).stem: {"timestamps": [[0, 1]], "sentences": list(captions[item.key][:1])}
    for item in drawn.items()
}
names = list(videos)
for file, chosen in (("train", names[:8]), ("val_1", names[8:])):
    Path(f"drawn/{file}.json").write_text(json.dumps({name: videos[name] for name in chosen}))
report = intertitle.import_dataset("activitynet", "drawn", out="corpus", target_language="en")
stored = intertitle.precompute("corpus", out="features", frames=4, backbone="gist")
settings = [
    "model.kind=init_inject",
    "model.hidden_size=32",
    "model.embedding_size=32",
    "training.max_steps=4",
    "training.sampler=single",
]
result = intertitle.train("show_and_tell", "corpus", "features", settings=settings)
print(json.dumps({
    "items": report.items,
    "stored": stored.stored,
    "kind": intertitle.load_model(result.run.run_id).recipe.model.kind,
    "wer": result.evaluation.scores.values["wer"],
}))
"""


def blocks(document: str) -> dict[str, str]:
    """The files of a document by their names."""
    text = (ROOT / document).read_text("utf-8")
    return {match["file"]: match["body"] for match in BLOCK.finditer(text)}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's source."""
    folder = tmp_path_factory.mktemp("source")
    examples = {Path(name).name: body for name, body in blocks("CONTRIBUTING.md").items()}
    files = blocks("docs/plugins.md")
    files |= {f"more_intertitle/{name}": examples[name] for name in EXAMPLES}
    files["more_intertitle/__init__.py"] = ""
    for name, body in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(body)
    return folder


@pytest.fixture(scope="module")
def environment(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables of processes that have the package installed."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    command += ["--no-deps", "--no-index", "--target", str(target), str(source)]
    subprocess.run(command, check=True)
    return {**os.environ, "PYTHONPATH": str(target), "COLUMNS": "200"}


def run(environment: dict[str, str], folder: Path, *command: object) -> str:
    """Run a Python command; its output."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_holds_the_laws(
    source: Path, environment: dict[str, str], onnx_cache: Path, tmp_path: Path
) -> None:
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", source)
    output = run(environment, tmp_path, "-m", "pytest", *options, source / "tests")
    assert "4 passed" in output


def test_help_and_errors_list_it(environment: dict[str, str], tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("intertitle")

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
        )

    assert "train.json, val_1.json, val_2.json, and videos" in start("import", "--help").stdout
    assert "; gist." in start("precompute", "--help").stdout
    ended = start("train", "show_and_tell", "--corpus", "c", "--set", "model.kind=x")
    assert ended.returncode == 2
    assert "model.kind: 'x', allowed: " in ended.stderr
    assert "vqa_attention, init_inject" in ended.stderr


def test_all_of_it_works_together(
    environment: dict[str, str], onnx_cache: Path, tmp_path: Path
) -> None:
    result = json.loads(run(environment, tmp_path, "-c", TRY).splitlines()[-1])
    assert (result["items"], result["stored"], result["kind"]) == (12, 12, "init_inject")
    assert result["wer"] > 0
