"""`intertitle cluster`, and who may use a Ray that this project starts."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from intertitle.jobs.cluster.session import cluster
from intertitle.pipeline.errors import UserError
from tests.hosts import network
from tests.jobs.program import Person, somebody
from tests.ports import free_ports


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with somebody(tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "token: there is none, allowed: the cluster's, in RAY_AUTH_TOKEN, "),
        ({"RAY_AUTH_TOKEN": ""}, "token: there is none, "),
        ({"RAY_AUTH_TOKEN_PATH": "gone"}, "RAY_AUTH_TOKEN_PATH: 'gone': no file with a token"),
        ({"RAY_AUTH_MODE": "tokens"}, "RAY_AUTH_MODE: 'tokens', allowed: token, disabled"),
        ({"RAY_AUTH_MODE": ""}, "RAY_AUTH_MODE: '', allowed: token, disabled"),
    ],
)
def test_who_has_no_token_is_told_where_it_has_to_be(
    person: Person, environment: dict[str, str], told: str
) -> None:
    ended = person.run("jobs", "list", "--address", "http://127.0.0.1:1", **environment)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"intertitle: {told}")


def test_where_a_token_can_not_be_kept_its_variable_is_named(person: Person) -> None:
    home = person.folder / "home"
    home.touch()
    ended = person.run("cluster", "up", "--port", *free_ports(1), HOME=str(home))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"intertitle: {home}/.ray/auth_token: Not a directory: Ray's token can't be kept there; "
        'give it in the environment: export RAY_AUTH_TOKEN="$(openssl rand -hex 32)"\n'
    )


def test_a_token_is_made_once_and_for_its_user_alone(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever a new file would be otherwise.
    mask = os.umask(0)
    try:
        taken = socket.create_server(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        ended = person.run("cluster", "up", "--port", port)
        token = person.token
        person.run("cluster", "up", "--port", port)
    finally:
        os.umask(mask)
        taken.close()
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.endswith(f"--port: {port} is in use by another program, allowed: a free port")
    kept = person.home / ".ray" / "auth_token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert list(kept.parent.iterdir()) == [kept]
    assert len(token) == 64 and person.token == token
    assert person.run("cluster", "status").stdout == "no cluster is up\n"


def test_a_port_that_is_bound_and_not_listened_on_is_told_at_once(person: Person) -> None:
    port, page = free_ports(2)
    with socket.socket() as taken:
        # Nobody answers there, and Ray would try for minutes.
        taken.bind(("127.0.0.1", page))
        ended = person.run("cluster", "up", "--port", port, "--dashboard-port", page)
    assert ended.returncode == 2
    assert f"--dashboard-port: {page} is in use by another program" in ended.stderr


def test_an_address_of_another_machine_is_a_mistake(person: Person) -> None:
    ended = person.run("cluster", "up", "--host", "192.0.2.1")
    assert ended.returncode == 2
    assert "--host: 192.0.2.1: Cannot assign requested address, allowed: " in ended.stderr


# Addresses that any process listens on but those of the loopback interface.
LISTENERS = """
import psutil
from intertitle.jobs.cluster.session import cluster

with cluster(ADDRESS):
    import ray
    assert ray.get(ray.remote(lambda: 1).remote()) == 1
    listening = [c.laddr.ip for c in psutil.net_connections("tcp") if c.status == "LISTEN"]
assert len(listening) > 5
print({ip for ip in listening if not ip.removeprefix("::ffff:").startswith("127.")})
"""


@pytest.mark.chaos
def test_nobody_else_reaches_a_ray_of_this_machine(person: Person) -> None:
    port, page = free_ports(2)
    with network(1) as (host,):

        def run(*command: str | int) -> str:
            ended = subprocess.run(
                [*host.within, *map(str, command)],
                env={**os.environ, "HOME": str(person.home), "TMPDIR": str(person.home)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr
            return ended.stdout.strip().splitlines()[-1]

        program = Path(sys.executable).with_name("intertitle")
        assert run(sys.executable, "-c", LISTENERS.replace("ADDRESS", "None")) == "set()"
        try:
            run(program, "cluster", "up", "--port", port, "--dashboard-port", page)
            there = LISTENERS.replace("ADDRESS", repr(f"127.0.0.1:{port}"))
            assert run(sys.executable, "-c", there) == "set()"
            job = "import ray; ray.init(); print(ray.nodes()[0]['NodeManagerAddress'])"
            address = f"http://127.0.0.1:{page}"
            assert run(program, "submit", "--address", address, "--", "python", "-c", job)
        finally:
            run(program, "cluster", "down", "--port", port)


@pytest.mark.chaos
def test_two_clusters_are_not_mixed_up(person: Person) -> None:
    first, second, *pages = free_ports(4)
    for port, page in zip((first, second), pages, strict=True):
        ended = person.run(
            *("cluster", "up", "--workers", 0, "--port", port, "--dashboard-port", page)
        )
        assert ended.returncode == 0, ended.stderr
    try:
        again = person.run("cluster", "up", "--port", first, "--dashboard-port", pages[0])
        assert again.returncode == 2
        assert f"{first} is in use by a cluster that `intertitle cluster up`" in again.stderr
        both = person.run("cluster", "down")
        assert both.returncode == 2
        assert both.stderr.endswith(f"allowed: one of {min(first, second)}, {max(first, second)}\n")
        unclear = person.run("submit", "--", "true")
        assert unclear.returncode == 2 and "--address: none, allowed: " in unclear.stderr

        head = _head(person, second)
        assert person.run("cluster", "down", "--port", first).returncode == 0
        status = json.loads(person.run("cluster", "status", "--json").stdout.splitlines()[-1])
        assert [each["address"] for each in status["clusters"]] == [f"127.0.0.1:{second}"]
        assert head.is_running()
        # Of a head that something killed, `down` stops what is left.
        children = head.children(recursive=True)
        head.kill()
        killed = person.run("cluster", "status").stdout
        assert "a head and 0 workers, 1 of them dead" in killed or killed == "no cluster is up\n"
        assert person.run("cluster", "down").returncode == 0
        assert not psutil.wait_procs(children, timeout=120)[1]
        assert person.run("cluster", "status").stdout == "no cluster is up\n"
    finally:
        for port in (first, second):
            person.run("cluster", "down", "--port", port)


def _head(person: Person, port: int) -> psutil.Process:
    record = next(person.home.glob(f"intertitle-*/{port}/cluster.json"))
    return psutil.Process(json.loads(record.read_text())["nodes"][0]["pid"])


def test_a_node_that_is_slow_to_start_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def start(**options: object) -> None:
        calls.append(str(options["address"]))
        if len(calls) % 3:
            raise Exception("The current node timed out during startup.\nMore.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", start)
    monkeypatch.setattr("ray.shutdown", lambda: calls.append("shutdown"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with cluster(None):
        assert calls == ["local"] * 3
    assert calls[3:] == ["shutdown"]


def test_a_cluster_that_does_not_answer_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**options: object) -> None:
        raise ConnectionError("nobody there\nMore.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", fail)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    told = r"address: 'ray://nobody:1': nobody there$"
    with pytest.raises(UserError, match=told), cluster("ray://nobody:1"):
        pass
