"""The worked examples of CONTRIBUTING.md do what they say, in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
BLOCK = re.compile(r"^`(?P<file>[^`]+)`:\n\n```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.S | re.M)
COMMAND = re.compile(r"^    pytest (tests/.+)$", re.M)

# What "Trying it" does, on a few drawn clips.
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
events = {
    Path(item.uri).stem: {
        "timestamps": [[0, 1], [1, 2]], "sentences": list(captions[item.key][:2])
    }
    for item in drawn.items()
}
names = list(events)
for file, chosen in (("train", names[:8]), ("val_1", names[8:])):
    Path(f"drawn/{file}.json").write_text(json.dumps({name: events[name] for name in chosen}))
report = intertitle.import_dataset("activitynet", "drawn", out="corpus")
stored = intertitle.precompute("corpus", out="features", frames=4, backbone="gist")
result = intertitle.train(
    "init_inject",
    "corpus",
    "features",
    settings=["training.max_steps=4", "model.hidden_size=32", "model.embedding_size=32"],
)
store = intertitle.FeatureStore("features")
print(json.dumps({
    "package": intertitle.__file__,
    "items": report.items,
    "stored": stored.stored,
    "shape": store.features(intertitle.Corpus("corpus").items()[0].key).shape,
    "metrics": result.evaluation.scores.values,
}))
"""


def apply(text: str, hunks: str) -> str:
    """Apply the hunks of a diff, each of which fits one place of the text."""
    lines = text.splitlines()
    for hunk in hunks.split("@@\n")[1:]:
        old = [line[1:] for line in hunk.splitlines() if not line.startswith("+")]
        new = [line[1:] for line in hunk.splitlines() if not line.startswith("-")]
        at = [n for n in range(len(lines)) if lines[n : n + len(old)] == old]
        assert len(at) == 1, f"fits {len(at)} places:\n{hunk}"
        lines[at[0] : at[0] + len(old)] = new
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with all examples, under the name that it is installed by."""
    copy = tmp_path_factory.mktemp("copy")
    for path in ROOT.iterdir():
        if path.suffix in (".md", ".toml"):
            shutil.copy(path, copy)
    for name in ("pipeline", "training", "jobs", "tests", "docs", "infra"):
        ignored = shutil.ignore_patterns("__pycache__", "_build")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    package = copy / ".lint" / "intertitle"
    package.mkdir(parents=True)
    for folder in ("pipeline", "training", "jobs"):
        (package / folder).symlink_to(copy / folder)
    for path in (copy / "jobs" / "api").iterdir():
        (package / path.name).symlink_to(path)
    for block in BLOCK.finditer(GUIDE):
        file = copy / block["file"]
        assert file.exists() == (block["kind"] == "diff"), file
        text = block["body"]
        file.write_text(apply(file.read_text("utf-8"), text) if file.exists() else text, "utf-8")
    return copy


def run(copy: Path, *command: object, folder: Path | None = None) -> str:
    """Run a Python command on the copy; its output."""
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder or copy,
        env={**os.environ, "PYTHONPATH": str(copy / ".lint")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if folder is None else None,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# The commands one after the other in one process, which imports PyTorch and Ray once.
TESTS = """
import sys
import pytest

for arguments in sys.argv[1:]:
    code = pytest.main(["-q", "-p", "no:cacheprovider", *arguments.split()])
    if code:
        sys.exit(f"pytest {arguments}: {code}")
"""


def test_the_tests_of_the_examples_pass(changed: Path) -> None:
    commands = COMMAND.findall(GUIDE)
    assert len(commands) == 4
    output = run(changed, "-c", TESTS, *commands)
    assert output.count(" passed") == len(commands)


def test_the_examples_follow_the_conventions(changed: Path) -> None:
    new = [block["file"] for block in BLOCK.finditer(GUIDE) if block["file"].endswith(".py")]
    run(changed, "-m", "ruff", "check", "--no-cache", *new)
    run(changed, "-m", "ruff", "format", "--no-cache", "--check", *new)
    run(changed, "-m", "tests.language")


def test_what_they_add_works_together(changed: Path, onnx_cache: Path, tmp_path: Path) -> None:
    result = json.loads(run(changed, "-c", TRY, folder=tmp_path).splitlines()[-1])
    assert result["package"].startswith(str(changed))
    assert (result["items"], result["stored"], result["shape"]) == (24, 24, [4, 24])
    assert result["metrics"]["wer"] > 0
