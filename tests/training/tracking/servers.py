"""MLflow's own server to kill and start again, a proxy that fails in front of it, and a writer."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

from intertitle.training.tracking.run import TrackedRun
from tests.ports import free_ports


def write(run: TrackedRun, step: int) -> None:
    """What a training writes after an epoch."""
    run.metrics({"train/nats": 1 / step, "val/cider": step / 10}, step)
    run.table("samples", [{"epoch": n, "said": f"a man, {n}"} for n in range(1, step + 1)])
    run.text(f"notes/{step}.txt", f"epoch {step}\n")


class Server:
    """`mlflow server`: one worker, a SQLite file, artifacts through it."""

    def __init__(self, folder: Path) -> None:
        (self.port,), self._folder = free_ports(1), folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.database = f"sqlite:///{folder}/mlflow.db"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        self._process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("mlflow"), "server", "--workers", "1"),
                *("--host", "127.0.0.1", "--port", str(self.port)),
                *("--backend-store-uri", self.database),
                *("--artifacts-destination", self._folder / "artifacts"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=self._folder,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                probe = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                probe.request("GET", "/health")
                if probe.getresponse().status == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError("mlflow server does not start")

    def kill(self) -> None:
        """At once, with its worker."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Proxy:
    """Passes requests on. As `mode` says it fails before ("broken") or after the server heard it
    ("lost"): then all that is sent again is there already."""

    def __init__(self, upstream: int) -> None:
        self.mode: Literal["whole", "broken", "lost"] = "whole"
        self.num_failed = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, answer = 500, b"{}"
                if proxy.mode != "broken":
                    ahead = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
                    headers = {"Content-Type": self.headers.get("Content-Type", "")}
                    ahead.request(self.command, self.path, body, headers)
                    heard = ahead.getresponse()
                    status, answer = heard.status, heard.read()
                if proxy.mode != "whole" and self.command != "GET":
                    proxy.num_failed += 1
                    status = 500
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def proxied(server: Server) -> Iterator[Proxy]:
    """A proxy in front of a server."""
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()
