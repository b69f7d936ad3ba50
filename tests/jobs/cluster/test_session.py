"""Who may use a Ray that this project starts, and how it connects to one that others start."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from intertitle.jobs.cluster.session import cluster
from intertitle.pipeline.errors import UserError
from tests.hosts import SCRIPTS, network, ray_node
from tests.jobs.program import ON_LOOPBACK, PROGRAM, Person, somebody


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


MAKE_TOKEN = "from intertitle.jobs.cluster.session import make_token; make_token()"


def make_token(person: Person, **others: str) -> subprocess.CompletedProcess[str]:
    """What every command does that starts Ray."""
    return subprocess.run(
        [sys.executable, "-c", MAKE_TOKEN],
        env=person.variables(RAY_AUTH_MODE="token", **others),
        capture_output=True,
        text=True,
        # Whatever a new file would be otherwise.
        umask=0,
    )


def test_where_a_token_can_not_be_kept_its_variable_is_named(person: Person) -> None:
    home = person.folder / "home"
    home.touch()
    ended = make_token(person, HOME=str(home))
    assert ended.stderr.endswith(
        f"UserError: {home}/.ray/auth_token: Not a directory: Ray's token can't be kept there; "
        'give it in the environment: export RAY_AUTH_TOKEN="$(openssl rand -hex 32)"\n'
    )


def test_a_token_is_made_once_and_for_its_user_alone(person: Person) -> None:
    assert make_token(person).returncode == 0
    token = person.token
    assert make_token(person).returncode == 0
    kept = person.home / ".ray" / "auth_token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert list(kept.parent.iterdir()) == [kept]
    assert len(token) == 64 and person.token == token


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
    with network(1) as (host,):

        def run(*command: object, **others: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [*host.within, *map(str, command)],
                env=person.variables(**others),
                capture_output=True,
                text=True,
                check=False,
            )

        def listeners(address: str | None) -> str:
            code = LISTENERS.replace("ADDRESS", repr(address))
            ended = run(sys.executable, "-c", code, RAY_AUTH_MODE="token")
            assert ended.returncode == 0, ended.stderr
            return ended.stdout.splitlines()[-1]

        # This makes the token, too.
        assert listeners(None) == "set()"
        environment = person.variables(
            **ON_LOOPBACK, PATH=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"
        )
        options = ("--head", "--node-ip-address=127.0.0.1", f"--temp-dir={person.home}")
        with ray_node(host, environment, *options) as node:
            while run(PROGRAM, "jobs", "list").returncode:
                assert node.poll() is None
            assert listeners("127.0.0.1:6379") == "set()"
            job = "import ray; ray.init(); print(ray.nodes()[0]['NodeManagerAddress'])"
            ended = run(PROGRAM, "submit", "--", "python", "-c", job)
            assert ended.stdout.splitlines()[-1] == "127.0.0.1", ended.stderr


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
