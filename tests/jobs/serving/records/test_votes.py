"""Votes give a preference with its interval, and are a table in MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from intertitle.jobs.serving.records.votes import VoteBook, preference
from intertitle.jobs.serving.schemas import AnsweredBy
from intertitle.training.tracking.artifacts import read_table
from intertitle.training.tracking.run import resolve_run
from intertitle.training.tracking.store.client import open_client


def test_the_interval_is_wilsons() -> None:
    # Newcombe 1998, table I: 81 of 263.
    result = preference("a", ["first"] * 81 + ["second"] * 182)
    assert (result.low, result.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert preference("a", ["tie", "first", "second", "tie"]).share == 0.5
    always = preference("a", ["first"] * 10)
    assert always.high == pytest.approx(1) and 0.7 < always.low < 0.8


def test_votes_of_a_pair_in_any_order_are_one_table(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    left, right = (
        AnsweredBy(name=name, spec=name, version=None, run_id=f"id-{name}", run=name)
        for name in "ab"
    )
    votes = VoteBook(uri)
    votes.add((left, right), ("one", "two"), "x", "first")
    votes.close()
    # Another server goes on. The better answer is on the right, and of the same model.
    votes = VoteBook(uri)
    result = votes.add((right, left), ("four", "three"), "y", "second")
    votes.close()
    assert (result.name, result.votes, result.share) == ("a", 2, 1.0)
    run = resolve_run("votes-a-b", uri)
    client = open_client(uri)
    rows = read_table(Path(client.download_artifacts(run.run_id, "votes.json")))
    assert [(r["input"], r["first"], r["second"], r["vote"]) for r in rows] == [
        ("x", "one", "two", "first"),
        ("y", "three", "four", "first"),
    ]
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.tags["first_run_id"] == "id-a"
    metrics = stored.data.metrics
    assert metrics["preference_first"] == metrics["preference_first_high"] == 100
    assert 30 < metrics["preference_first_low"] < 40
    # A model of the same name that has been trained anew has votes of its own.
    newer = left.model_copy(update={"run_id": "id-c"})
    votes = VoteBook(uri)
    assert votes.add((newer, right), ("one", "two"), "x", "first").votes == 1
    votes.close()
