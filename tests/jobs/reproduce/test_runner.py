"""`intertitle reproduce`: what is missing is made once, and the table is read from the runs."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from intertitle.jobs.reproduce.config import load_table
from intertitle.jobs.reproduce.runner import ReproductionRunner
from intertitle.pipeline.corpus import write_corpus
from intertitle.pipeline.errors import JobError
from intertitle.training.runs.job_artifact import read_job
from intertitle.training.tracking.store.client import default_tracking_uri, resolve_run

SMALL = """
set = [
    "model.embedding_size=8", "model.hidden_size=8", "tokenizer.size=40",
    "source_tokenizer.size=40", "training.epochs=1", "training.batch_tokens=400",
    "search.max_tokens=8",
]
"""
TABLE = """
title = "Words from their end"
metrics = ["sacrebleu", "search_errors"]
[corpora.pairs]
format = "parallel"
source = ["pairs"]
source_language = "de"
target_language = "en"
num_train = 60
[runs.reversed]
recipe = "seq2seq_reversed"
corpus = "pairs"
seeds = [1, 2]
SMALL
[runs.further]
recipe = "seq2seq_reversed"
corpus = "pairs"
seeds = [2, 3]
init_from = "reversed"
SMALL
[[rows]]
label = "alone"
runs = "reversed"
search = { beam_size = 1 }
published = { sacrebleu = 30.59 }
[[rows]]
label = "together"
runs = "reversed"
together = 2
search = { beam_size = 2 }
[[rows]]
label = "ranked anew"
runs = "reversed"
rescoring = { runs = "reversed", nbest = 3 }
[[rows]]
label = "further"
runs = "further"
""".replace("SMALL", SMALL)
NOTHING = "| alone | 0 | – | – | 30.59 |"


def write_pairs(folder: Path) -> None:
    dice = random.Random(0)
    folder.mkdir(parents=True)
    for split, num in (("train", 80), ("val", 12)):
        lines = [" ".join(dice.choices("abcdef", k=dice.randint(2, 5))) for _ in range(num)]
        (folder / f"{split}.de").write_text("".join(f"{line}\n" for line in lines))
        (folder / f"{split}.en").write_text("".join(f"{line[::-1]}\n" for line in lines))


def test_a_table_is_trained_once_and_read_from_mlflow_afterwards(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray_cluster: None,
    intertitle: Callable[..., Any],
    trains_in_process: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pairs(tmp_path / "data" / "pairs")
    Path("table.toml").write_text(TABLE)

    def table(*options: str) -> tuple[Any, dict[str, Any]]:
        ended = intertitle("reproduce", "table.toml", *options, "--json", "--out", "page.html")
        assert ended.code == 0, ended.err
        found: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
        return ended, found

    ended, _ = table("--no-train")
    assert NOTHING in ended.out
    ended, made = table()
    assert [line for line in ended.err.splitlines() if line.startswith(("train", "meas"))] == [
        "training reversed-1, run 1 of 4",
        "training reversed-2, run 2 of 4",
        "measuring row 1 of 4, alone: reversed-1",
        "measuring row 1 of 4, alone: reversed-2",
        "measuring row 2 of 4, together: reversed-1 + reversed-2",
        "measuring row 3 of 4, ranked anew: reversed-1",
        "measuring row 3 of 4, ranked anew: reversed-2",
        "training further-2, run 3 of 4",
        "training further-3, run 4 of 4",
    ]
    alone, together, ranked, further = made["rows"]
    assert [len(alone["runs"]), len(together["runs"]), len(ranked["runs"])] == [2, 1, 2]
    assert len(alone["metrics"]["sacrebleu"]) == 2
    assert len(together["metrics"]["search_errors"]) == 1
    assert ranked["metrics"]["search_errors"] == []
    begun = [resolve_run(run, default_tracking_uri()) for run in further["runs"]]
    # Of the same seed, or else the first.
    assert [read_job(run).init_from for run in begun] == alone["runs"][::-1]
    page = Path("page.html").read_text("utf-8")
    assert page.count("<section") == 4 and page.count("<article") == 4 * 12
    again, same = table()
    assert same == made
    assert again.err == ""
    assert table("--no-train")[1] == made

    other = TABLE.replace("hidden_size=8", "hidden_size=9")
    Path("table.toml").write_text(other)
    refused = intertitle("reproduce", "table.toml")
    assert refused.code == 2
    assert "run reversed-1: is there, and of another recipe" in refused.err
    Path("table.toml").write_text(TABLE.replace("num_train = 60", "num_train = 61"))
    refused = intertitle("reproduce", "table.toml")
    assert refused.code == 2
    assert "pairs: is there, and pairs.json next to it does not say" in refused.err
    fewer = TABLE.replace('corpus = "pairs"', 'corpus = "fewer"').replace(
        "corpora.pairs", "corpora.fewer"
    )
    Path("table.toml").write_text(fewer.replace("num_train = 60", "num_train = 50"))
    refused = intertitle("reproduce", "table.toml")
    assert refused.code == 2
    assert "run reversed-1: is there, and of another corpus" in refused.err


def test_features_that_were_never_finished_are_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TABLE.replace("seeds = [1, 2]", 'features = "seen"\nseeds = [1, 2]')
    (tmp_path / "table.toml").write_text(f'{text}\n[stores.seen]\ncorpus = "pairs"\n')
    config = load_table(str(tmp_path / "table.toml"))
    (tmp_path / "data").mkdir()
    write_corpus(tmp_path / "work" / "corpora" / "pairs", [], [])
    (tmp_path / "work" / "features" / "seen" / "shards").mkdir(parents=True)
    for place, made in (
        ("corpora/pairs", config.corpora["pairs"]),
        ("features/seen", config.stores["seen"]),
    ):
        (tmp_path / "work" / f"{place}.json").write_text(made.model_dump_json())

    def begin(corpus: Any, store: Any, options: Any) -> None:
        raise JobError(f"{store.name} is begun")

    monkeypatch.setattr("intertitle.jobs.reproduce.runner.run_precompute", begin)
    workshop = ReproductionRunner(
        config,
        tmp_path / "data",
        tmp_path / "work",
        f"sqlite:///{tmp_path}/mlflow.db",
        may_train=True,
        start_ray=lambda: None,
        on_step=lambda _: None,
    )
    with pytest.raises(JobError, match="seen is begun"):
        workshop.results()
