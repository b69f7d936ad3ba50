"""`intertitle ui`: MLflow's server, opened at the table of trainings."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import open_client
from tests.conftest import Ended
from tests.jobs.program import somebody
from tests.ports import free_ports


def test_the_server_opens_at_the_table_of_runs_with_their_scores(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    for name in ("first", "second"):
        with TrackedRun.start(uri, "intertitle", name, tags={"recipe": "s2vt"}) as run:
            run.metrics({"eval/val/beam_3/cider": 0.5, "val/cider": 0.4, "system/cpu": 3.0}, 1)
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
    assert view["selectedColumns"] == ["tags.`recipe`", "metrics.`eval/val/beam_3/cider`"]


def test_a_port_in_use_is_named(intertitle: Callable[..., Ended], tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = intertitle("ui", "--port", port, f"--tracking-uri=sqlite:///{tmp_path}/a.db")
    assert ended.code == 2
    assert ended.err.startswith(f"intertitle: --port {port}: another program listens there")
