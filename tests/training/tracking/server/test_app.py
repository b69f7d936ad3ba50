"""MLflow's server with the app `intertitle`, on a real PostgreSQL and a real object store."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.tracking.inputs import DataInput
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.server.accounts import (
    ACCOUNT,
    ACCOUNT_PASSWORD,
    ADMIN_PASSWORD,
    SECRET_KEY,
)
from intertitle.training.tracking.store.client import download, params, resolve_run
from tests.conftest import Ended
from tests.ports import free_ports

CONFIG = Path(__file__).parents[4] / "infra" / "basic_auth.ini"
MLFLOW = Path(sys.executable).with_name("mlflow")
ADMIN, DATABASE, SECRET = "correct-horse-battery", "database-secret", "forms-secret-key"
READER = ("reader", "only-here-to-read")
JOBS = ("jobs", "what-jobs-log-in-with")


@dataclass(frozen=True)
class Server:
    """A running one: where, and what it wrote."""

    uri: str
    process: subprocess.Popen[bytes]
    log: Path


def postgres_folder() -> Path:
    """Where PostgreSQL's programs are; CI always has them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [shutil.which("initdb")]
    if not found[0]:
        reason = "PostgreSQL is not installed: apt-get install postgresql"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return Path(found[-1]).parent


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The URL, without its password, of an empty PostgreSQL, which refuses to be run by root."""
    programs, (port,) = postgres_folder(), free_ports(1)
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    (folder / "password").write_text(DATABASE)
    user: dict[str, object] = {"cwd": folder}
    if os.getuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, folder / "password"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    initdb = [programs / "initdb", "-D", data, "-U", "team", "-A", "scram-sha-256", "--no-sync"]
    subprocess.run(
        [*initdb, f"--pwfile={folder / 'password'}"], check=True, capture_output=True, **user
    )
    settings = ["-F", "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", ""]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *settings], stderr=log, **user
        )
    try:
        wait(lambda: socket.create_connection(("127.0.0.1", port)).close(), server)
        yield f"postgresql+psycopg://team@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # does not wait for those who are connected
        server.wait(timeout=300)
        shutil.rmtree(folder)


def wait(attempt: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            attempt()
            return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not start")


@pytest.fixture(scope="module")
def server(
    store: str, object_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The command, with one worker and the accounts of `infra/`."""
    folder = tmp_path_factory.mktemp("server")
    log, config = folder / "log", folder / "basic_auth.ini"
    (port,) = free_ports(1)
    text = CONFIG.read_text("utf-8")
    config.write_text(text.replace("postgresql+psycopg://intertitle@database/intertitle", store))
    settings = {
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **{"PGPASSWORD": DATABASE, ADMIN_PASSWORD: ADMIN, SECRET_KEY: SECRET},
        **dict(zip((ACCOUNT, ACCOUNT_PASSWORD), JOBS, strict=True)),
    }
    command = [MLFLOW, "server", "--app-name", "intertitle", "--port", str(port), "--workers", "1"]
    hosts = f"127.0.0.1:{port},mlflow.example.org"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                *(*command, "--artifacts-destination", "s3://bucket/runs"),
                *("--allowed-hosts", hosts, "--cors-allowed-origins", "http://mlflow.example.org"),
            ],
            env=os.environ | settings,
            stdout=file,
            stderr=file,
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        try:
            wait(lambda: urllib.request.urlopen(f"{uri}/health").close(), process)
        except RuntimeError:
            pytest.fail(log.read_text())
        yield Server(uri, process, log)
    finally:
        process.terminate()
        process.wait(timeout=300)
    # None of its processes is left.
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A client's environment: a name, a password, and no keys of the object store."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_TRACKING_"))]:
        monkeypatch.delenv(name)

    def log_in(user: str, password: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    return log_in


def status(uri: str, **headers: str) -> int:
    """What a request for the list of experiments is answered with."""
    login = b64encode(f"admin:{ADMIN}".encode()).decode()
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 1}',
        headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"} | headers,
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def test_a_run_goes_through_the_server_and_back(
    server: Server, log_in: Callable[[str, str], None], object_store: Path, tmp_path: Path
) -> None:
    log_in("admin", ADMIN)
    (tmp_path / "weights").write_text("1 2 3")
    given = {"recipe": "s2vt", "lr": 1e-3, "long": "x" * 9000}
    inputs = [DataInput("corpus", "s3://bucket/corpus", "a" * 64, "training")]
    with TrackedRun.start(server.uri, "team", "first", given, {"team": "film"}, inputs) as run:
        run.metrics({"val/cider": 0.4}, step=1)
        run.metrics({"val/cider": 0.5}, step=2)
        run.table("samples", [{"said": "a man"}])
        run.folder(tmp_path, "model")
    found = resolve_run("first", server.uri)
    assert found == run.ref
    assert params(found) == {"recipe": "s2vt", "lr": "0.001", "long": "x" * 9000}
    assert run.logged_steps("val/cider") == {1, 2}
    assert (download(found, "model") / "weights").read_text() == "1 2 3"
    (kept,) = (object_store / "bucket" / "runs").rglob("weights")
    assert kept.read_text() == "1 2 3"


@pytest.mark.parametrize("password", ["", "not-the-password"])
def test_a_wrong_password_is_one_line(
    server: Server,
    log_in: Callable[[str, str], None],
    intertitle: Callable[..., Ended],
    password: str,
) -> None:
    log_in("admin" if password else "", password)
    ended = intertitle("evaluate", "first", "--tracking-uri", server.uri)
    assert ended.code == 2
    assert ended.err.startswith(f"intertitle: MLflow at {server.uri}: ")
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in ended.err
    assert ended.err.count("\n") == 1 and (not password or password not in ended.err)


def test_a_new_account_reads_all_and_writes_what_is_its_own(
    server: Server, log_in: Callable[[str, str], None]
) -> None:
    from mlflow.server import get_app_client

    log_in("admin", ADMIN)
    with TrackedRun.start(server.uri, "theirs", "to read") as run:
        run.text("notes/note.txt", "seen")
    get_app_client("basic-auth", server.uri).create_user(*READER)
    log_in(*READER)
    assert resolve_run("to read", server.uri) == run.ref
    assert (download(run.ref, "notes") / "note.txt").read_text() == "seen"
    with pytest.raises(UserError, match=r"MLflow at http.*'reader' may not"):
        TrackedRun.start(server.uri, "theirs", "never made")
    with TrackedRun.start(server.uri, "mine", "own") as own:
        own.metrics({"val/cider": 0.5}, step=1)
    assert resolve_run("own", server.uri) == own.ref


def test_the_account_of_jobs_trains_and_registers_and_is_no_admin(
    server: Server, log_in: Callable[[str, str], None], tmp_path: Path
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.server import get_app_client

    log_in(*JOBS)
    (tmp_path / "weights").write_text("1 2 3")
    with TrackedRun.start(server.uri, "of jobs", "trained") as run:
        run.metrics({"val/cider": 0.5}, step=1)
        run.folder(tmp_path, "model")
    client = MlflowClient(server.uri, server.uri)
    client.create_registered_model("of jobs")
    source = f"{client.get_run(run.run_id).info.artifact_uri}/model"
    made = client.create_model_version("of jobs", source, run.run_id)
    client.set_registered_model_alias("of jobs", "champion", made.version)
    assert not get_app_client("basic-auth", server.uri).get_user(JOBS[0]).is_admin
    with pytest.raises(MlflowException, match="Permission denied"):
        get_app_client("basic-auth", server.uri).create_user("other", "a-password-of-theirs")


@pytest.mark.parametrize("prefix", ["api", "ajax-api"])
@pytest.mark.parametrize("user", [("admin", ADMIN), JOBS])
def test_nobody_says_that_artifacts_are_elsewhere(
    server: Server, user: tuple[str, str], prefix: str, tmp_path: Path
) -> None:
    def asked(path: str, **body: object) -> tuple[int, dict[str, object]]:
        return ask(server.uri, f"/{prefix}/{path}", user, body)

    (tmp_path / "secret.txt").write_text("of the server")
    name = f"{user[0]} by {prefix}"
    elsewhere = [
        *(tmp_path.as_uri(), str(tmp_path), "s3://other/folder", "s3://bucket/runs/../x"),
        *(
            "mlflow-artifacts:/../x",
            "mlflow-artifacts:/a/%2e%2e/%252e%252e/x",
            "mlflow-artifacts:/",
        ),
        *("mlflow-artifacts://elsewhere.example.org/x", "mlflow-artifacts:/0/x", "dbfs:/x"),
    ]
    for field in ("artifact_location", "artifactLocation"):
        for place in elsewhere:
            code, told = asked("2.0/mlflow/experiments/create", name=name, **{field: place})
            assert code == 400, (place, told)
    code, told = asked("2.0/mlflow/experiments/create", name=name)
    assert code == 200
    mine = told["experiment_id"]
    code, told = asked("2.0/mlflow/runs/create", experiment_id=mine)
    run_id = told["run"]["info"]["run_id"]  # type: ignore[index]
    assert asked("2.0/mlflow/registered-models/create", name=name)[0] == 200
    for source in ("s3://other/model", tmp_path.as_uri(), f"{tmp_path.as_uri()}#x", "dbfs:/x"):
        version = {"name": name, "source": source, "run_id": run_id}
        assert asked("2.0/mlflow/model-versions/create", **version)[0] == 400, source
    where = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": mine}}
    trace = {
        "trace_id": f"tr-{run_id}",
        "trace_location": where,
        "request_time": "2026-11-20T00:00:00Z",
        "state": "OK",
    }
    to_disk = {"mlflow.artifactLocation": tmp_path.as_uri()}
    bad = {"trace_info": {**trace, "tags": to_disk}}
    assert asked("3.0/mlflow/traces", trace={**bad})[0] >= 400
    assert asked("3.0/mlflow/traces", trace={"trace_info": trace})[0] == 200
    tag = {"key": "mlflow.artifactLocation", "value": tmp_path.as_uri()}
    path = f"/{prefix}/2.0/mlflow/traces/tr-{run_id}/tags"
    assert ask(server.uri, path, user, tag, "PATCH")[0] == 400
    assert ask(server.uri, path, user, {**tag, "key": "location"}, "PATCH")[0] == 200


def ask(
    uri: str, path: str, user: tuple[str, str], body: object, method: str = "POST"
) -> tuple[int, Any]:
    """A server's status and what it says."""
    login = b64encode(":".join(user).encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{uri}{path}", json.dumps(body).encode(), headers, method=method
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def test_only_the_names_it_was_given_reach_it(server: Server) -> None:
    page = "http://mlflow.example.org"
    assert status(server.uri) == 200
    assert status(server.uri, Host="mlflow.example.org", Origin=page) == 200
    assert status(server.uri, Host="elsewhere.example.org") == 403
    assert status(server.uri, Origin="http://elsewhere.example.org") == 403


def test_no_secret_is_in_an_argument_or_the_log(server: Server) -> None:
    commands = [
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if readable(path)
    ]
    assert sum(b"mlflow" in command for command in commands) > 1
    written = b"\n".join([*commands, server.log.read_bytes()]).decode(errors="replace")
    for secret in (ADMIN, DATABASE, SECRET, READER[1], JOBS[1], "not-a-secret", "not-the-password"):
        assert secret not in written.replace("key,not-a-secret", "")  # rclone's, of the tests


def readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def test_without_a_password_the_command_ends_with_one_line(tmp_path: Path) -> None:
    config = tmp_path / "basic_auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{tmp_path}/users.db\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != ADMIN_PASSWORD}
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/runs.db"]
    ended = subprocess.run(
        [MLFLOW, "server", "--app-name", "intertitle", *store],
        env=environment | {"MLFLOW_AUTH_CONFIG_PATH": str(config)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith(f"Error: {ADMIN_PASSWORD}: not set, allowed: ")
    assert "Traceback" not in ended.stderr
    # No worker has started, and there are no accounts.
    assert not (tmp_path / "users.db").exists()
