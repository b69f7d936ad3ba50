"""`intertitle ui`: show the trainings in MLflow's page."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import IO, Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.options import TrackingUri, check_free, is_free
from intertitle.jobs.tracking import tracking_store
from intertitle.pipeline.errors import JobError

HOST = "127.0.0.1"
FIRST_PORT = 5000
# Number of ports that are tried if no port is given.
_NUM_PORTS = 100
# Time limit for the start of the server, in seconds.
_START_S = 300.0


def show_runs(
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help=f"Port on this machine; default: a free one from {FIRST_PORT} on.",
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open MLflow's page at the table of trainings with their scores.

    For a database, MLflow's server runs on this machine until Ctrl-C.
    """
    from intertitle.training.tracking.store.client import absolute
    from intertitle.training.tracking.store.run_list import page_address, table_path

    if port is not None:
        check_free(HOST, port)
    uri = absolute(tracking_store(tracking_uri))
    with console.step("reading the runs"):
        path = table_path(uri)
    if uri.startswith(("http://", "https://")):
        _open(f"{page_address(uri)}{path}")
        return
    port = port or next(p for p in range(FIRST_PORT, FIRST_PORT + _NUM_PORTS) if is_free(HOST, p))
    command = [
        *(str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1"),
        *("--host", HOST, "--port", str(port)),
    ]
    environment = {
        **os.environ,
        # In the list of processes every user would see a password in it.
        "MLFLOW_BACKEND_STORE_URI": uri,
        # Tasks of features that trainings do not use start further processes.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    # A file, unlike a pipe, does not fill up.
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment)
        try:
            with console.step("starting MLflow's server"):
                _wait(server, port, log)
            _open(f"http://{HOST}:{port}{path}")
            console.note("Ctrl-C stops the server")
            server.wait()
        finally:
            server.terminate()
            server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    """Wait until a server answers.

    Raises:
        JobError: it ends, or does not answer in time; the message has the last line of its log.
    """
    deadline = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(HOST, port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.2)
    from intertitle.training.tracking.store.mlflow_errors import redact

    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    reason = redact(lines[-1].strip()) if lines else "it says nothing"
    raise JobError(f"MLflow's server does not start: {reason}")


def _open(url: str) -> None:
    """Print the address of a page, and show it if there is a graphical browser."""
    console.echo(url)
    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
