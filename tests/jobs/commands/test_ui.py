"""`intertitle ui`: MLflow's server, opened at the table of trainings."""

from __future__ import annotations

import json
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from intertitle.jobs.commands import ui
from intertitle.pipeline.errors import JobError
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store import run_list
from intertitle.training.tracking.store.client import open_client
from tests.conftest import Ended
from tests.jobs.program import somebody
from tests.ports import free_ports


def test_the_server_opens_at_the_table_of_runs_with_their_scores(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for name, cider in (("first", 10.5), ("second", 9.75)):
        with TrackedRun.start(uri, "intertitle", name, tags={"recipe": "s2vt"}) as run:
            run.metrics({"val/cider": 0.4, "system/cpu": 3.0}, 1)
            run.tags(run_list.score_tags("eval/val/beam_3", {"cider": cider}))
    (port,) = free_ports(1)
    with somebody(tmp_path) as person:
        shown = person.start("ui", "--port", port)
        try:
            assert shown.stdout is not None
            url = shown.stdout.readline().strip()
            address, _, path = url.partition("/#")
            assert address == f"http://127.0.0.1:{port}"
            with urlopen(f"{address}/health", timeout=10) as response:
                assert response.status == 200
        finally:
            shown.terminate()
            assert shown.wait(60) == 75
    client = open_client(uri)
    experiment = client.get_experiment_by_name("intertitle")
    assert experiment is not None
    key = "intertitle"
    assert path.startswith(f"/experiments/{experiment.experiment_id}/runs?viewStateShareKey={key}")
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{key}"])
    assert view["selectedColumns"] == ["tags.`recipe`", "tags.`eval/val/beam_3/cider`"]
    # The table can be sorted by a score.
    order = [f"{view['selectedColumns'][1]} DESC"]
    runs = client.search_runs([experiment.experiment_id], order_by=order)
    assert [run.info.run_name for run in runs] == ["first", "second"]


def test_a_port_in_use_is_named(intertitle: Callable[..., Ended], tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = intertitle("ui", "--port", port, f"--tracking-uri=sqlite:///{tmp_path}/a.db")
    assert ended.code == 2
    assert ended.err.startswith(f"intertitle: --port {port}: another program listens there")


def test_a_page_of_another_server_has_an_address_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_list, "table_path", lambda uri: "/#/experiments/1/runs")
    monkeypatch.setattr(webbrowser, "open", lambda url: True)
    ui.show_runs(tracking_uri="https://me:secret@mlflow.example.org/")
    assert capsys.readouterr().out.strip() == "https://mlflow.example.org/#/experiments/1/runs"


def test_the_reason_is_named_if_mlflow_does_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mlflow").write_text("#!/bin/sh\necho >&2 no such table\nexit 1\n")
    (folder / "mlflow").chmod(0o755)
    monkeypatch.setattr(run_list, "table_path", lambda uri: "/")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    with pytest.raises(JobError, match="does not start: no such table"):
        ui.show_runs(tracking_uri=f"sqlite:///{tmp_path}/a.db")
