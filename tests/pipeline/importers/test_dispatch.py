"""An importer of an installed package is used as the project's own are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.importers.dispatch import IMPORTERS
from tests.plugins import install

MODULE = """
from intertitle.pipeline.corpus import Example, write_corpus
from intertitle.pipeline.importers.declaration import Importer, Option, Sources
from intertitle.pipeline.importers.report import count_import


def import_words(source, out, repeat=1, prefix=()):
    words = [*prefix, *source.read_text().split()] * repeat
    examples = [Example(f"{n}", "train", None, None, (w,)) for n, w in enumerate(words)]
    return count_import(write_corpus(out, [], examples))


IMPORTER = Importer(
    "words",
    import_words,
    Sources.ONE,
    "FILE",
    "a word an example",
    options=(
        Option("repeat", "Number of times", int),
        Option("prefix", "Word to begin with", list[str]),
    ),
    sentences=True,
)
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of words; the package is installed for the processes started there."""
    points = {"intertitle.importers": {"words": "words_:IMPORTER", "broken": "nowhere:IMPORTER"}}
    packages = install(tmp_path / "packages", "words-importer", points, {"words_.py": MODULE})
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=":")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "words.txt").write_text("a dog barks")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("intertitle"), "import", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_it_is_in_the_help_with_its_options_and_one_that_fails_is_named(environment: Path) -> None:
    text = run(environment, "--help").stdout
    assert "words FILE                 a word an example" in text
    assert "Number of times (words)." in text
    assert "importer 'broken' of the package words-importer: nowhere:IMPORTER: Module" in text


def test_it_imports_with_its_options(environment: Path) -> None:
    options = ("--repeat", "2", "--prefix", "x", "--prefix", "y", "--target-language", "en")
    ended = run(environment, "words", "words.txt", *options, "--out", "corpus", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["examples"] == 10
    corpus = Corpus(environment / "corpus")
    assert corpus.target_language == "en"
    assert [e.targets[0] for e in corpus.examples()] == ["x", "y", "a", "dog", "barks"] * 2


def test_errors_list_it(environment: Path) -> None:
    for arguments, message in (
        (("text", "a", "--repeat", "2"), "import text: takes no --repeat, allowed for words"),
        (("wrds",), "import: 'wrds', allowed: a_okvqa, coco, "),
        (("broken", "a"), "importer 'broken' of the package words-importer: nowhere:IMPORTER: "),
    ):
        ended = run(environment, *arguments, "--out", "corpus")
        assert ended.returncode == 2
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"intertitle: {message}")


def test_every_own_importer_is_listed_by_its_name() -> None:
    importers, failures = IMPORTERS.load_all()
    assert failures == {}
    assert [importer.name for importer in importers.values()] == list(importers)
