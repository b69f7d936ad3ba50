"""`intertitle serve`: a server that is started, called, disturbed and stopped."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
import requests

from intertitle.training.tracking.registry.registry import promote
from intertitle.training.tracking.store.client import RunRef
from tests.jobs.program import somebody
from tests.jobs.serving.servers import TEXT, Server, serving
from tests.jobs.serving.tiny_models import log_run, make_models

Run = Callable[..., Any]
MODEL = "models:/words@champion"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunRef, ...]:
    folder = tmp_path_factory.mktemp("words")
    models = make_models()
    refs = tuple(
        log_run(folder, name, models["classifier"]) for name in ("first", "second", "third")
    )
    log_run(folder, "writer", models["writer"])
    promote(refs[0], "words")
    return refs


@pytest.fixture(scope="module")
def server(runs: tuple[RunRef, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with (
        somebody(tmp_path_factory.mktemp("server")) as person,
        serving(person, runs, MODEL, "writer", "--max-requests", 64, "--max-body-mb", 1) as started,
    ):
        yield started


@contextmanager
def load(server: Server, callers: int = 4) -> Iterator[list[requests.Response]]:
    """Callers that send one request after the other until the block ends; their responses."""
    ended, responses = threading.Event(), []

    def call() -> None:
        while not ended.is_set():
            responses.append(server.post())

    with ThreadPoolExecutor(callers) as pool:
        calls = [pool.submit(call) for _ in range(callers)]
        try:
            yield responses
        finally:
            ended.set()
    for finished in calls:
        finished.result()


def answers(responses: list[requests.Response]) -> Counter[tuple[str, str]]:
    """Runs that answered, and their answers; none of the requests is lost."""
    assert {response.status_code for response in responses} == {200}
    bodies = [response.json() for response in responses]
    return Counter((b["model"]["run"], b["results"][0]["text"]) for b in bodies)


def test_it_answers_as_predict_does(server: Server, intertitle: Run) -> None:
    answer = server.post().json()
    ended = intertitle(
        *("predict", "first", "--text", "gut", "--nbest", 2, "--json"),
        *("--tracking-uri", server.runs[0].tracking_uri),
    )
    expected = json.loads(ended.out.splitlines()[-1])["results"]
    assert [c["text"] for c in answer["results"][0]["nbest"]] == [p["text"] for p in expected]
    assert requests.get(f"{server.url}/readyz").json() == {"status": "ready"}
    assert "intertitle_inputs_total" in requests.get(f"{server.url}/metrics").text


def test_the_champion_moves_under_load(server: Server) -> None:
    with load(server) as responses:
        deadline = time.monotonic() + 240
        while len(responses) < 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        promote(server.runs[1], "words")
        while time.monotonic() < deadline:
            if server.post().json()["model"]["version"] == "2":
                break
            time.sleep(0.1)
        num = len(responses)
        while len(responses) < num + 20 and time.monotonic() < deadline:
            time.sleep(0.1)
    counts = answers(responses)
    assert {run for run, _ in counts} == {"first", "second"}
    assert len({text for _, text in counts}) == 1


def replica_processes(server: Server) -> list[psutil.Process]:
    family = psutil.Process(server.process.pid).children(recursive=True)
    return [item for item in family if "ServeReplica:intertitle:words" in " ".join(item.cmdline())]


def test_a_replica_is_killed_under_load(server: Server) -> None:
    with load(server) as responses:
        deadline = time.monotonic() + 120
        while len(responses) < 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        (replica,) = replica_processes(server)
        replica.kill()
        killed = len(responses)
        while len(responses) < killed + 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(responses) >= killed + 20
    answers(responses)


def test_500_callers_at_once_are_answered_or_told_to_come_again(server: Server) -> None:
    body = {"inputs": [{"text": "gut"}] * 8}
    with ThreadPoolExecutor(500) as pool:
        responses = list(pool.map(server.post, [body] * 500))
    statuses = Counter(response.status_code for response in responses)
    assert set(statuses) <= {200, 503} and statuses[200] >= 64
    for response in responses:
        if response.status_code == 503:
            assert response.json()["field"] == "server"
            assert int(response.headers["Retry-After"]) >= 1
    assert server.post().status_code == 200


def test_a_body_of_1_gb_is_refused_and_not_kept(server: Server) -> None:
    def gigabyte() -> Iterator[bytes]:
        for _ in range(1024):
            yield b" " * 2**20

    family = psutil.Process(server.process.pid).children(recursive=True)
    before = sum(item.memory_info().rss for item in family)
    url = f"{server.url}/v1/models/words/predict"
    try:
        response = requests.post(url, data=gigabyte(), timeout=60)
        assert response.status_code == 413
    except requests.ConnectionError:
        # The server has closed the connection while the body was being sent.
        pass
    after = sum(item.memory_info().rss for item in family if item.is_running())
    # 10 MB as the limit is 1 MiB; some 75 MB, more beside load, if the proxy reads ahead.
    assert after - before < 50 * 2**20
    assert server.post().status_code == 200


def test_a_caller_that_goes_away_does_not_disturb(server: Server) -> None:
    for _ in range(20):
        with pytest.raises(requests.Timeout):
            requests.post(f"{server.url}/v1/models/words/predict", json=TEXT, timeout=0.001)
    answers([server.post() for _ in range(5)])


def test_a_caller_that_leaves_a_stream_leaves_nothing_behind(server: Server) -> None:
    url = f"{server.url}/v1/models/writer"
    body = {"num_tokens": 400, "seed": 1}
    with requests.post(f"{url}/stream", json=body, stream=True, timeout=120) as response:
        lines = (line for line in response.iter_lines() if line.startswith(b"data: "))
        first, second = (json.loads(next(lines).removeprefix(b"data: ")) for _ in range(2))
    assert second["text"] == first["text"] + second["token"]
    assert requests.post(f"{url}/predict", json={"num_tokens": 2}, timeout=120).status_code == 200
    deadline = time.monotonic() + 60
    # Of the requests in flight, one asks for their number.
    while "intertitle_requests_in_flight 1.0" not in requests.get(f"{server.url}/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_check_loads_and_tells_the_memory(intertitle: Run, runs: tuple[RunRef, ...]) -> None:
    uri = runs[0].tracking_uri
    ended = intertitle("serve", "a=first", "b=second", "--check", "--json", "--tracking-uri", uri)
    assert ended.code == 0, ended.err
    result = json.loads(ended.out.splitlines()[-1])
    assert [(row["name"], row["run"]) for row in result["models"]] == [
        ("a", "first"),
        ("b", "second"),
    ]
    assert result["total_mb"] == sum(row["replica_mb"] for row in result["models"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "run 'gone': not found"),
        (["models:/gone@champion"], "run 'models:/gone@champion'"),
        (["first", "--host", "0.0.0.0"], "--host: '0.0.0.0': others reach it, allowed: 127.0.0.1"),
        (["first", "--replicas", "2:1"], "--replicas: '2:1', allowed: MIN:MAX"),
        (["first", "--allow-host", "example.org"], "--allow-host: 'example.org', allowed"),
    ],
)
def test_a_mistake_ends_in_one_line(
    intertitle: Run, runs: tuple[RunRef, ...], arguments: list[str], message: str
) -> None:
    ended = intertitle("serve", *arguments, "--tracking-uri", runs[0].tracking_uri)
    assert ended.code == 2
    (line,) = ended.err.splitlines()
    assert message in line


def test_a_port_in_use_is_named_before_anything_starts(
    intertitle: Run, runs: tuple[RunRef, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = intertitle("serve", "first", "--port", port, "--tracking-uri", runs[0].tracking_uri)
    assert ended.code == 2
    assert f"--port {port}: another program listens there" in ended.err


# The last test of this file: it stops the server.
def test_the_move_is_told_and_the_server_stops(server: Server) -> None:
    promote(server.runs[0], "words")
    promote(server.runs[2], "words")
    assert server.process.stderr is not None
    lines = iter(server.process.stderr.readline, "")
    assert any("run third answers instead of" in line for line in lines)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 75
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url, timeout=5)
