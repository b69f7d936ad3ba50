"""`intertitle report`: the page of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from intertitle.pipeline.corpus import Corpus
from intertitle.training.reports.plots import learning_curves
from intertitle.training.tracking.run import reopen
from tests.conftest import Ended
from tests.training.evaluations import captions, log_run

NUM = 20


def test_the_page_has_pictures_and_curves(
    intertitle: Callable[..., Ended], clips: Path, tmp_path: Path
) -> None:
    keys = [item.key for item in Corpus(clips).items()][:NUM]
    samples = [replace(s, item_key=key) for s, key in zip(captions(NUM), keys, strict=True)]
    ref = log_run(f"sqlite:///{tmp_path}/mlflow.db", "first", samples, corpus=str(clips))
    with reopen(ref) as run:
        run.figure("learning_curves", learning_curves([{"train/nats_per_token": 1.0}]))
    store, page = f"--tracking-uri={ref.tracking_uri}", tmp_path / "first.html"
    ended = intertitle("report", "first", "--out", page, store, "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out.splitlines()[-1]) == {
        "run_id": ref.run_id,
        "split": "val",
        "out": str(page),
    }
    html = page.read_text("utf-8")
    assert html.count("data:image/png;base64,") == 1
    assert html.count("data:image/jpeg;base64,") == 14
    ended = intertitle("report", "first", "--split", "test", "--out", page, store)
    assert (ended.code, ended.out) == (2, "")
    assert "run first: keeps no examples of 'test'" in ended.err
