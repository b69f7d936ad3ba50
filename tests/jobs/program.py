"""The installed program, for somebody whose home, clusters and environment are their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.ports import free_ports

PROGRAM = Path(sys.executable).with_name("intertitle")
# A Ray that starts beside much other work may be tried three times.
TIMEOUT_S = 600.0
# Niceness of Ray's workers, which tests/conftest.py sets.
NICENESS = "RAY_worker_niceness"


def inherited_environment() -> dict[str, str]:
    """Variables of this process but for settings of Ray and MLflow; the niceness of the tests."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == NICENESS or not name.startswith(("RAY_", "MLFLOW_"))
    }


@dataclass(frozen=True)
class Person:
    """Who runs the program.

    Attributes:
        home: their home, and what they have for temporary files.
        folder: that they are in.
        environment: what theirs has beside what everybody's has; an empty value takes one away.
    """

    home: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def variables(self, **others: str) -> dict[str, str]:
        """All environment variables of their processes."""
        theirs = {"HOME": str(self.home), "TMPDIR": str(self.home), **self.environment, **others}
        return {**inherited_environment(), **theirs}

    def start(self, *arguments: object, **others: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return subprocess.Popen(
            [PROGRAM, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.variables(**others),
        )

    def run(self, *arguments: object, **others: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments, **others)
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        finally:
            if process.poll() is None:
                # What it started, it stops.
                process.terminate()
                process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @property
    def token(self) -> str:
        """What Ray asks them for."""
        return (self.home / ".ray" / "auth_token").read_text()


@contextmanager
def somebody(folder: Path) -> Iterator[Person]:
    """Somebody in a folder, with an empty home."""
    # Not under pytest's own folder: the names of Ray's sockets have to stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="it-", ignore_cleanup_errors=True) as home:
        yield Person(Path(home), folder)


# A Ray that only this machine reaches, as docs/cluster.md starts it.
ON_LOOPBACK = {"RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def ray_head(person: Person, *options: str, **others: str) -> Iterator[tuple[str, str]]:
    """A cluster of one node, which is gone without a trace after: the address of its head, and that
    of its job server.

    Args:
        person: whose it is.
        options: more of `ray start`.
        others: environment beside the person's.
    """
    ray = str(PROGRAM.with_name("ray"))
    environment = person.variables(
        **ON_LOOPBACK,
        PATH=f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
        RAY_TMPDIR=str(person.home),
        RAY_DASHBOARD_STARTUP_TIMEOUT_S="180",
        **others,
    )
    generate = [ray, "get-auth-token", "--generate"]
    subprocess.run(generate, env=environment, check=True, capture_output=True, umask=0o077)
    port, page, client = free_ports(3)
    log = person.home / "ray-start.log"
    with log.open("wb") as out:
        head = subprocess.Popen(
            [
                *(ray, "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"),
                # Ray's default ports are the same for every head.
                *(f"--port={port}", f"--dashboard-port={page}"),
                *(f"--ray-client-server-port={client}", "--dashboard-agent-listen-port=0"),
                *options,
            ],
            env=environment,
            cwd=person.home,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        while b"Ray runtime started." not in log.read_bytes():
            assert head.poll() is None, log.read_text()
            time.sleep(0.2)
        yield f"127.0.0.1:{port}", f"http://127.0.0.1:{page}"
    finally:
        processes = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        head.terminate()
        for process in psutil.wait_procs(processes, 15)[1]:
            process.kill()
        head.wait()
