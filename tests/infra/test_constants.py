"""What holds for all files of `infra/`: they agree with each other and with the code."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from typing import Any

import mlflow.cli
import mlflow.environment_variables
import pytest
import typer.main
from botocore.credentials import EnvProvider
from mlflow.server.auth.config import read_auth_config
from packaging.specifiers import SpecifierSet
from ray._private import ray_constants
from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS
from ray.scripts.scripts import cli as ray_program

from intertitle.jobs.cli import app
from intertitle.jobs.cluster.session import (
    HEAD_PORT,
    JOB_SERVER_PORT,
    RAY_ENVIRONMENT,
    RAY_SYSTEM_CONFIG,
    TOKEN_PLACES,
)
from intertitle.jobs.cluster.submission import JOB_VARIABLE, SETTINGS, STOP_WAIT_S
from intertitle.training.tracking.server.accounts import ADMIN_PASSWORD, SECRET_KEY
from intertitle.training.trainer.workers.preemption import GRACE_S as CHECKPOINT_S
from tests.infra.files import FOLDER, commands, fields, images, pods, read, trees

PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))
CONSTRAINTS = dict(
    line.split("==") for line in (FOLDER / "constraints.txt").read_text("utf-8").split()
)
DOCKERFILE = (FOLDER / "Dockerfile").read_text("utf-8")
# A value that compose takes from the environment, and refuses to start without.
REQUIRED = re.compile(r"\$\{\w+:\?.+\}")
PROGRAMS: dict[str, Any] = {
    "intertitle": typer.main.get_command(app),
    "mlflow": mlflow.cli.cli,
    "ray": ray_program,
}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY")


@pytest.fixture
def services() -> Any:
    return read("compose.yaml")["services"]


def test_versions_are_those_of_the_constraints_and_of_the_project() -> None:
    named = {image for tree in trees().values() for image in images(tree)}
    own = {image for image in named if image.startswith("intertitle")}
    assert own == {f"intertitle:{PROJECT['project']['version']}"}
    assert named - own == {"postgres:17", "versity/versitygw:v1.7.0"}
    rays = [value for t in trees().values() for name, value in fields(t) if name == "rayVersion"]
    assert rays == [CONSTRAINTS["ray"]] * 4 and version("ray") == CONSTRAINTS["ray"]
    (python,) = set(re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE))
    assert python in SpecifierSet(PROJECT["project"]["requires-python"])
    assert PROJECT["tool"]["mypy"]["python_version"] == python


def test_no_secret_is_in_a_file() -> None:
    for path, tree in trees().items():
        assert tree.get("kind") != "Secret", path
        for name, value in fields(tree):
            if name.isupper() and SECRET.search(name):
                assert REQUIRED.fullmatch(value), f"{path}: {name}"
    text = "\n".join(path.read_text("utf-8") for path in FOLDER.rglob("*") if path.is_file())
    assert not re.search(r"(?i)(password|secret|token)\s*=\s*\S|//[^/@\s]*:[^/@\s]+@", text)
    # Nor is there a value that would be taken where none is given.
    assert set(re.findall(r"\$\{(\w+):-", text)) == {"ACCELERATOR"}


def test_every_command_is_one_that_there_is() -> None:
    known = [words for words in commands() if words[0] in PROGRAMS]
    for words in known:
        check(words)
    assert {" ".join(words[:2]) for words in known} == {
        *("intertitle retrain", "intertitle serve", "intertitle train", "mlflow server"),
        *("ray start", "ray stop"),
    }


@pytest.mark.parametrize(
    "words",
    [
        ["intertitle", "retrian", "x"],
        ["intertitle", "retrain", "x", "--corn", "0 3 * * *"],
        ["intertitle", "train", "s2vt", "--workers", "two"],
        ["mlflow", "server", "--app-name", "intertitel"],
        ["ray", "start", "--haed"],
    ],
)
def test_a_command_that_there_is_not_would_be_found(words: list[str]) -> None:
    expected = r"No such command|No such option|valid integer|is not one of"
    with pytest.raises(Exception, match=expected):
        check(words)


def check(words: list[str]) -> None:
    """Read a command's words as its program would, without running it."""
    program = PROGRAMS[words[0]]
    name, command, rest = program.resolve_command(program.context_class(program), words[1:])
    rest = [word.replace("$RAY_HEAD_IP", "127.0.0.1") for word in rest]
    command.make_context(name, rest)


def test_ports_are_those_of_the_code_of_ray_and_of_mlflow(services: Any) -> None:
    assert ray_constants.DEFAULT_PORT == HEAD_PORT
    assert ray_constants.DEFAULT_DASHBOARD_PORT == JOB_SERVER_PORT
    starts = [" ".join(words) for words in commands() if words[:2] == ["ray", "start"]]
    heads = [start for start in starts if "--head" in start]
    assert len(heads) == 2 and len(starts) == 5
    for start in starts:
        assert f"--port={HEAD_PORT}" in start or f":{HEAD_PORT}" in start
        assert (start in heads) is (f"--dashboard-port={JOB_SERVER_PORT}" in start)
    assert f"\nEXPOSE {HEAD_PORT} {JOB_SERVER_PORT}\n" in DOCKERFILE
    for name in ("head", "worker", "gpu-worker"):
        agent = f"http://127.0.0.1:{ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT}"
        (path,) = re.findall(f"'{agent}(.+?)'", services[name]["healthcheck"]["test"][-1])
        assert path in PUBLIC_EXACT_PATHS
    assert services["head"]["ports"] == [f"127.0.0.1:{JOB_SERVER_PORT}:{JOB_SERVER_PORT}"]
    (port,) = (o.default for o in mlflow.cli.server.params if o.name == "port")
    assert f"--port={port}" in services["tracking"]["command"]
    assert services["tracking"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"'http://127.0.0.1:{port}/health'" in services["tracking"]["healthcheck"]["test"][-1]
    assert services["head"]["environment"]["MLFLOW_TRACKING_URI"] == f"http://tracking:{port}"
    policy = read("kubernetes/network-policy.yaml")["spec"]
    assert {"protocol": "TCP", "port": port} in policy["egress"][-1]["ports"]


def test_the_server_of_mlflow_accepts_its_own_names_alone(services: Any) -> None:
    (hosts,) = (
        word.removeprefix("--allowed-hosts=").split(",")
        for word in services["tracking"]["command"]
        if word.startswith("--allowed-hosts=")
    )
    assert not [host for host in hosts if "*" in host]
    assert services["head"]["environment"]["MLFLOW_TRACKING_URI"] == f"http://{hosts[0]}"


def test_accounts_of_mlflow_are_in_the_database_of_its_runs(
    services: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose, tracking = read("compose.yaml"), services["tracking"]
    (mounted,) = tracking["configs"]
    assert mounted["target"] == tracking["environment"]["MLFLOW_AUTH_CONFIG_PATH"]
    file = FOLDER / compose["configs"][mounted["source"]]["file"]
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(file))
    monkeypatch.delenv(ADMIN_PASSWORD, raising=False)
    config = read_auth_config()
    assert config.database_uri == tracking["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert (config.admin_username, config.admin_password) == ("admin", None)
    assert config.default_permission == "READ"
    # An old password works for at most this time after a change.
    assert config.auth_cache_ttl_seconds <= 60


def test_environment_variables_are_those_that_are_read(services: Any) -> None:
    options = {option.envvar for option in mlflow.cli.server.params}
    of_mlflow = {name for name in vars(mlflow.environment_variables) if name.startswith("MLFLOW_")}
    read = {JOB_VARIABLE, *SETTINGS, *options, *of_mlflow}
    read |= {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY, *re.findall(r"RAY_\w+", TOKEN_PLACES)}
    # libpq's.
    read |= {"PGPASSWORD"}
    given = {
        name
        for service in services.values()
        if "build" in service
        for name in service["environment"]
    }
    assert given >= {"RAY_AUTH_TOKEN", ADMIN_PASSWORD, SECRET_KEY, "MLFLOW_BACKEND_STORE_URI"}
    assert given <= read, given - read


def test_every_ray_of_an_image_has_a_token_and_the_settings_of_the_code() -> None:
    image = DOCKERFILE.rpartition("\nFROM ")[2]
    given = dict(re.findall(r"^(?:ENV| {3}) (RAY_\w+)=(\S+)", image, re.MULTILINE))
    assert given.pop("RAY_AUTH_MODE") == "token"
    assert given.pop("RAY_USAGE_STATS_ENABLED") == "0"
    config = {f"RAY_{name}": str(value) for name, value in RAY_SYSTEM_CONFIG.items()}
    assert given == RAY_ENVIRONMENT | config


def test_whoever_is_told_to_stop_has_the_time_to_keep_a_checkpoint(services: Any) -> None:
    # A job may take `STOP_WAIT_S` to stop, and its node the same time again.
    grace = 2 * STOP_WAIT_S
    assert CHECKPOINT_S < STOP_WAIT_S < grace
    periods = [
        pod["terminationGracePeriodSeconds"] for tree in trees().values() for pod in pods(tree)
    ]
    assert periods == [grace] * 14
    for name in ("head", "worker", "gpu-worker"):
        assert services[name]["stop_grace_period"] == f"{grace}s"


def test_the_documents_name_every_variable_that_compose_needs() -> None:
    document = (FOLDER.parent / "docs" / "cluster.md").read_text("utf-8")
    compose = (FOLDER / "compose.yaml").read_text("utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", compose))
    assert {name for name in needed if f"`{name}`" not in document} == set()
