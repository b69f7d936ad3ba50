"""Runs whose server goes away: nothing stops, nothing is lost, nothing is there twice."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from matplotlib.figure import Figure

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.outbox.delivery import Entry, deliver
from intertitle.training.tracking.outbox.outbox import Outbox, send_kept
from intertitle.training.tracking.run import TrackedRun, reopen
from intertitle.training.tracking.store.client import RunRef, download, resolve_run
from tests.conftest import Ended
from tests.training.tracking.servers import Server, proxied, write

STEPS = 6


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def assert_whole(database: str, run: TrackedRun, status: str = "FINISHED") -> None:
    """A run holds what `write` wrote at all steps, each thing once and in order."""
    store = client(database)
    found = store.get_run(run.run_id)
    assert found.info.status == status
    for name, values in (
        ("train/nats", [1 / step for step in range(1, STEPS + 1)]),
        ("val/cider", [step / 10 for step in range(1, STEPS + 1)]),
    ):
        history = store.get_metric_history(run.run_id, name)
        assert [(m.step, m.value) for m in history] == list(enumerate(values, start=1))
        assert found.data.metrics[name] == values[-1]
        times = [m.timestamp for m in history]
        assert times == sorted(set(times)), "not the times at which they were measured"
    assert json.loads(found.data.tags["mlflow.loggedArtifacts"]) == [
        {"path": "samples.json", "type": "table"}
    ]


def assert_artifacts(run: TrackedRun) -> None:
    rows = run.logged_rows("samples")
    assert rows == [{"epoch": n, "said": f"a man, {n}"} for n in range(1, STEPS + 1)]
    notes = download(run.ref, "notes")
    assert {file.name: file.read_text() for file in notes.iterdir()} == {
        f"{step}.txt": f"epoch {step}\n" for step in range(1, STEPS + 1)
    }


def test_a_server_that_is_killed_and_comes_back_gets_everything_once(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with TrackedRun.start(server.uri, "away", "killed", checkpoints=tmp_path) as run:
        for step in range(1, STEPS + 1):
            if step == 3:
                server.kill()
            if step == 5:
                server.start()
            began = time.monotonic()
            write(run, step)
            if step == 4:
                assert time.monotonic() - began < 5, "a training waits for a server that is away"
            time.sleep(0.002)
        run.figure("plots/empty", Figure())
    assert_whole(server.uri, run)
    assert_artifacts(run)
    assert [name for name in ("is away", "is back") if name in caplog.text] == [
        "is away",
        "is back",
    ]
    assert not list((tmp_path / run.run_id).iterdir()), "a journal is left over"


@pytest.mark.parametrize("mode", ["broken", "lost"])
def test_a_server_that_fails_for_a_while_gets_everything_once(
    server: Server, tmp_path: Path, mode: Any
) -> None:
    with (
        proxied(server) as proxy,
        TrackedRun.start(proxy.uri, "away", mode, checkpoints=tmp_path) as run,
    ):
        for step in range(1, STEPS + 1):
            proxy.mode = mode if 2 < step < 5 else "whole"
            write(run, step)
            time.sleep(0.002)
        assert proxy.num_failed
        run.finish()
        assert_whole(server.uri, run)
        assert_artifacts(run)


def test_what_is_left_when_a_job_ends_is_told_and_sent_by_a_command(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    intertitle: Callable[..., Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    kept = tmp_path / "kept"
    with proxied(server) as proxy:
        with TrackedRun.start(proxy.uri, "away", "left", checkpoints=kept) as run:
            for step in range(1, STEPS + 1):
                proxy.mode = "broken" if step > 2 else "whole"
                write(run, step)
                time.sleep(0.002)
        command = caplog.records[-1].getMessage().partition("to send them: ")[2]
        journal = kept / run.run_id / "journal"
        assert command == f"intertitle sync {journal} --tracking-uri {proxy.uri}"
        with pytest.raises(UserError, match=r"127\.0\.0\.1"):
            send_kept(kept, proxy.uri)
        proxy.mode = "whole"
        ended = intertitle(*command.split()[1:])
        assert (ended.code, ended.out) == (0, "run left: 13 writes sent\n"), ended.err
        assert_whole(server.database, run)
        assert_artifacts(run)
        assert not list((kept / run.run_id).iterdir())
        again = intertitle("sync", kept, "--tracking-uri", proxy.uri)
        assert again.out.endswith("nothing to send\n")


KILLED = """
import os, signal, sys, time
from pathlib import Path
from tests.training.tracking.servers import Server, proxied, write
from intertitle.training.tracking.run import TrackedRun

server = Server(Path("."))
server.port = int(sys.argv[1])
with proxied(server) as proxy:
    run = TrackedRun.start(proxy.uri, "away", "dead", checkpoints=Path(sys.argv[2]))
    print(run.run_id, flush=True)
    for step in range(1, 5):
        proxy.mode = "broken" if step > 2 else "whole"
        write(run, step)
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_sent_by_the_one_that_goes_on(
    server: Server, tmp_path: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(server.port), str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ref = resolve_run(killed.stdout.strip(), server.uri)
    with reopen(ref, running=True) as run:
        assert run.logged_steps("val/cider") == {1, 2, 3, 4}
        assert len(run.logged_rows("samples")) == 4
        # Another process that adds to the run leaves a journal in use alone.
        with reopen(ref) as other:
            other.text("other.txt", "evaluated\n")
        for step in (5, 6):
            write(run, step)
            time.sleep(0.002)
    assert_whole(server.uri, run)
    assert_artifacts(run)
    assert not list((tmp_path / run.run_id).iterdir())


def test_the_pauses_between_tries_grow_to_a_minute_and_begin_anew_once_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = itertools.count()

    class Away:
        def log_batch(self, *_: object, **__: object) -> None:
            if next(tries) != 3:
                raise ConnectionError("away")

    pauses: list[float] = []

    def note(_: Outbox, __: Exception, pause: float) -> bool:
        pauses.append(pause)
        return len(pauses) < 13

    monkeypatch.setattr(Outbox, "_wait", note)
    outbox = Outbox(
        cast(Any, Away()), RunRef("0" * 32, "run", "http://mlflow"), tmp_path / "journal"
    )
    for _ in range(2):
        outbox.put(Entry(tags={"a": "b"}), wait=False)
    outbox.close()
    assert pauses == [0.5, 1, 2, *(0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60)]


def test_what_mlflow_refuses_is_raised_where_it_was_written(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.exceptions import MlflowException

    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(MlflowException, match=r"bad\*name"),
        TrackedRun.start(server.uri, "away", "refused", checkpoints=tmp_path) as run,
    ):
        run.metrics({"bad*name": 1.0}, 1)
    assert client(server.uri).get_run(run.run_id).info.status == "FAILED"
    assert "away" not in caplog.text


def test_what_is_sent_twice_is_there_once_in_sqlite(server: Server, tmp_path: Path) -> None:
    uri = server.database
    entry = Entry(
        [("val/cider", 0.5, 1_000, 1), ("val/cider", 0.6, 2_000, 2)], {"a": "b"}, table="said.json"
    )
    with TrackedRun.start(uri, "away", "twice") as run:
        for _ in range(2):
            deliver(client(uri), run.run_id, entry, tmp_path / "no files")
    history = client(uri).get_metric_history(run.run_id, "val/cider")
    assert [(m.timestamp, m.step, m.value) for m in history] == [(1_000, 1, 0.5), (2_000, 2, 0.6)]
    assert client(uri).get_run(run.run_id).data.tags["mlflow.loggedArtifacts"].count("said") == 1


def test_the_machine_is_watched_while_a_run_lasts(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    uri = server.database
    with TrackedRun.start(uri, "away", "machine") as run:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.2)
            found = client(uri).get_run(run.run_id).data.metrics
            if "system/cpu_utilization_percentage" in found:
                break
    assert {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
        "system/disk_usage_percentage",
        "system/network_receive_megabytes",
    } <= found.keys()
