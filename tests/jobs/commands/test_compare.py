"""`intertitle compare`, as a person and as a script meets it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.corpus import Corpus
from tests.training.evaluations import captions, log_run, spoiled

NUM_EXAMPLES = 20


@pytest.fixture(scope="module")
def tracking(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three runs: two alike on clips that can be seen, and one that saw others."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('runs')}/mlflow.db"
    keys = [item.key for item in Corpus(clips).items()][:NUM_EXAMPLES]
    samples = [
        replace(one, item_key=key) for one, key in zip(captions(NUM_EXAMPLES), keys, strict=True)
    ]
    corpus = str(clips)
    log_run(uri, "base", spoiled(samples, 0.8), params={"dropout": 0.5}, corpus=corpus)
    log_run(uri, "new", spoiled(samples, 0.1, seed=2), params={"dropout": 0.1}, corpus=corpus)
    log_run(uri, "elsewhere", captions(NUM_EXAMPLES + 2), corpus=corpus)
    return f"--tracking-uri={uri}"


def test_runs_are_compared_in_the_terminal_on_a_page_and_for_a_script(
    intertitle: Callable[..., Any], tracking: str, tmp_path: Path
) -> None:
    page = tmp_path / "compare.html"
    ended = intertitle("compare", "base", "new", "--out", page, tracking, "--json")
    assert ended.code == 0, ended.err
    for words in ("sacrebleu", "better", "dropout", "0.5", "where new is better by sacrebleu"):
        assert words in ended.out
    assert "data:image/jpeg;base64," in page.read_text("utf-8")
    told = json.loads(ended.out.splitlines()[-1])
    assert (told["split"], told["num_examples"]) == ("val", NUM_EXAMPLES)
    base, new = told["runs"]
    assert (base["name"], new["name"]) == ("base", "new")
    difference = told["against_first"]["new"]["sacrebleu"]
    assert difference.keys() == {"value", "low", "high", "p", "verdict"}
    change = new["metrics"]["sacrebleu"] - base["metrics"]["sacrebleu"]
    assert difference["value"] == pytest.approx(change)
    assert difference["verdict"] == "better"
    assert told["settings"] == {"dropout": ["0.5", "0.1"]}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["base"], "compare: base: two different runs or more are needed"),
        (["base", "base"], "compare: base base: two different runs or more are needed"),
        (["base", "gone"], "run 'gone': not found"),
        (["base", "new", "--split", "test"], "run base: keeps no examples of 'test'"),
        (["base", "elsewhere"], "run elsewhere: scored on other examples of 'val' than base: 2 "),
        (["base", "new", "--metric", "spice"], "--metric spice: not in all of the runs"),
        (["base", "new", "--out", "page.txt"], "--out page.txt: "),
    ],
)
def test_what_cannot_be_compared_ends_in_one_line_and_exit_code_2(
    intertitle: Callable[..., Any], tracking: str, arguments: list[str], named: str
) -> None:
    ended = intertitle("compare", *arguments, tracking)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert named in line
    assert ended.out == ""
