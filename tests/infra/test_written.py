"""What holds for all files of `infra/`: they are written by the code, and are what it expects."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.environment_variables
import pytest
import typer.main
from botocore.credentials import EnvProvider
from packaging.specifiers import SpecifierSet
from ray._private import ray_constants
from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS
from ray.scripts.scripts import cli as ray_program

from intertitle.jobs.cli import app
from intertitle.jobs.cluster.job_resume import JOB_VARIABLE
from intertitle.jobs.cluster.session import (
    HEAD_PORT,
    JOB_SERVER_PORT,
    RAY_ENVIRONMENT,
    RAY_SYSTEM_CONFIG,
    TOKEN_PLACES,
)
from intertitle.jobs.cluster.submission import SETTINGS, STOP_WAIT_S
from intertitle.jobs.deploying import Settings, files, write
from intertitle.jobs.deploying.settings import (
    AGENT_PORT,
    GRACE_S,
    HEALTH_PATH,
    PYTHON_VERSION,
    RAY_VERSION,
)
from intertitle.training.tracking.server.serve import ADMIN_PASSWORD, STORE, ServerSettings
from intertitle.training.trainer.workers.preemption import GRACE_S as CHECKPOINT_S
from tests.infra.written import FOLDER, commands, fields, pods, trees

PROJECT = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))
CONSTRAINTS = dict(
    line.split("==") for line in (FOLDER / "constraints.txt").read_text("utf-8").split()
)
# A value that compose takes from the environment, and refuses to start without.
REQUIRED = re.compile(r"\$\{\w+:\?.+\}")
PROGRAMS: dict[str, Any] = {"intertitle": typer.main.get_command(app), "ray": ray_program}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY")


def test_the_committed_files_are_those_that_the_code_writes(tmp_path: Path) -> None:
    write(files(), tmp_path)
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert there == {"constraints.txt", *files()}
    for path in files():
        same = (FOLDER / path).read_bytes() == (tmp_path / path).read_bytes()
        assert same, f"infra/{path} is not what `make infra` writes"


def test_a_setting_reaches_every_file_that_has_it() -> None:
    here, elsewhere = files(), files(Settings(image="example.org/captions:2"))
    changed = {path for path in here if here[path] != elsewhere[path]}
    built = {"Dockerfile", "Dockerfile.dockerignore", "kubernetes/network-policy.yaml"}
    assert changed == set(here) - built
    assert not any(Settings().image in elsewhere[path] for path in changed)


def test_versions_are_those_of_the_constraints_and_of_the_project() -> None:
    assert version("ray") == RAY_VERSION == CONSTRAINTS["ray"]
    assert PYTHON_VERSION in SpecifierSet(PROJECT["project"]["requires-python"])
    assert PROJECT["tool"]["mypy"]["python_version"] == PYTHON_VERSION
    assert Settings().image == f"intertitle:{PROJECT['project']['version']}"


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


def test_every_command_is_one_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION"):
        monkeypatch.setenv(
            name, trees()["compose.yaml"]["services"]["tracking"]["environment"][name]
        )
    known = [words for words in commands() if words[0] in PROGRAMS]
    for words in known:
        check(words)
    told = {" ".join(words[:2]) for words in known}
    assert told == {
        *("intertitle retrain", "intertitle tracking", "intertitle train"),
        *("ray start", "ray stop"),
    }


@pytest.mark.parametrize(
    "words",
    [
        ["intertitle", "retrian", "x"],
        ["intertitle", "retrain", "x", "--corn", "0 3 * * *"],
        ["intertitle", "train", "s2vt", "--workers", "two"],
        ["ray", "start", "--haed"],
    ],
)
def test_a_command_that_there_is_not_would_be_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such command|No such option|valid integer"):
        check(words)


def check(words: list[str]) -> None:
    """Read a command's words as its program would, without running it."""
    program = PROGRAMS[words[0]]
    name, command, rest = program.resolve_command(program.context_class(program), words[1:])
    rest = [word.replace("$RAY_HEAD_IP", "127.0.0.1") for word in rest]
    command.make_context(name, rest)


def test_ports_are_those_of_the_code_and_of_ray() -> None:
    options = {option.name: option.default for option in command_of("cluster", "up").params}
    assert (options["port"], options["dashboard_port"]) == (HEAD_PORT, JOB_SERVER_PORT)
    assert ray_constants.DEFAULT_PORT == HEAD_PORT
    assert ray_constants.DEFAULT_DASHBOARD_PORT == JOB_SERVER_PORT
    assert ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT == AGENT_PORT
    assert HEALTH_PATH in PUBLIC_EXACT_PATHS
    served = {option.name: option.default for option in command_of("tracking").params}
    assert served["port"] == ServerSettings.port


def command_of(*names: str) -> Any:
    command = PROGRAMS["intertitle"]
    for name in names:
        command = command.commands[name]
    return command


def test_environment_variables_are_those_that_are_read() -> None:
    asked = {option.envvar for option in command_of("tracking").params}
    of_mlflow = {each for each in vars(mlflow.environment_variables) if each.startswith("MLFLOW_")}
    of_ray = {*RAY_ENVIRONMENT, *(f"RAY_{name}" for name in RAY_SYSTEM_CONFIG)}
    read = {STORE, ADMIN_PASSWORD, JOB_VARIABLE, *SETTINGS, *of_ray, *asked, *of_mlflow}
    read |= {EnvProvider.ACCESS_KEY, EnvProvider.SECRET_KEY}
    read |= {"RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", *re.findall(r"RAY_\w+", TOKEN_PLACES)}
    # libpq's.
    read |= {"PGPASSWORD"}
    services = trees()["compose.yaml"]["services"]
    told = {
        name
        for service in services.values()
        if "build" in service
        for name in service["environment"]
    }
    dockerfile = (FOLDER / "Dockerfile").read_text("utf-8")
    told |= set(re.findall(r"^(?:ENV| {3}) (RAY_\w+)=", dockerfile, re.MULTILINE))
    assert told >= {"RAY_AUTH_TOKEN", "RAY_AUTH_MODE", STORE, ADMIN_PASSWORD, *of_ray}
    assert told <= read, told - read


def test_whoever_is_told_to_stop_has_the_time_to_keep_a_checkpoint() -> None:
    assert CHECKPOINT_S < STOP_WAIT_S < GRACE_S
    found = [
        pod["terminationGracePeriodSeconds"] for tree in trees().values() for pod in pods(tree)
    ]
    assert len(found) == 12 and set(found) == {GRACE_S}
    for service in trees()["compose.yaml"]["services"].values():
        if service.get("command", [])[:2] == ["ray", "start"]:
            assert service["stop_grace_period"] == f"{GRACE_S}s"


def test_the_documents_name_every_variable_that_compose_needs() -> None:
    document = (FOLDER.parent / "docs" / "cluster.md").read_text("utf-8")
    compose = (FOLDER / "compose.yaml").read_text("utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", compose))
    assert {name for name in needed if f"`{name}`" not in document} == set()
