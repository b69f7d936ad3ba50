"""The server as a program of its own, for tests that call and disturb it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests

from intertitle.training.tracking.store.client import RunRef
from tests.jobs.program import Person
from tests.ports import free_ports

TEXT = {"inputs": [{"text": "gut"}], "nbest": 2}


@dataclass(frozen=True)
class Server:
    """A server that has started, and the runs that it may answer with."""

    process: subprocess.Popen[str]
    url: str
    runs: tuple[RunRef, ...]

    def post(self, body: dict[str, Any] = TEXT, kind: str = "predict", **more: Any) -> Any:
        return requests.post(f"{self.url}/v1/models/words/{kind}", json=body, timeout=120, **more)


@contextmanager
def serving(
    person: Person, runs: tuple[RunRef, ...], model: str, *options: object
) -> Iterator[Server]:
    """Start `intertitle serve`; it has stopped after the block."""
    (port,) = free_ports(1)
    process = person.start(
        *("serve", model, "--port", port, "--follow", 0.5, "--json"),
        *("--tracking-uri", runs[0].tracking_uri, *options),
    )
    assert process.stdout is not None
    try:
        line = ""
        for line in process.stdout:
            if line.startswith("{"):
                break
        else:
            raise AssertionError(process.communicate()[1])
        yield Server(process, json.loads(line)["url"], runs)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
