"""The Dockerfile, before a linter of Dockerfiles; building it takes a network and a builder."""

from __future__ import annotations

import subprocess
import sysconfig
import tomllib
from pathlib import Path

from tests.infra.files import FOLDER, pods, read, trees

USER_ID, DATA = 1000, "/data"
# The files and folders that an image is built from.
SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE", "infra/constraints.txt"),
    *("pipeline", "training", "jobs"),
)
TEXT = (FOLDER / "Dockerfile").read_text("utf-8")


def lint(text: str) -> str:
    """What the linter has to say, one line a complaint."""
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    return subprocess.run([program, "-"], input=text, capture_output=True, text=True).stdout


def test_the_linter_has_nothing_to_say() -> None:
    assert lint(TEXT) == ""


def test_the_linter_would_say_it() -> None:
    assert "unexpected" in lint(TEXT.replace("FROM python", "FORM python", 1))
    assert "DL3002" in lint(TEXT.replace(f"USER {USER_ID}:{USER_ID}", "USER root"))


def test_what_it_copies_is_there_and_goes_to_the_builder() -> None:
    copied = [
        source
        for line in TEXT.splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    assert sorted(copied) == sorted(SOURCES)
    assert all((FOLDER.parent / source).exists() for source in SOURCES)
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert ignored[1] == "*" and {f"!{source}" for source in SOURCES} < set(ignored)


def test_it_is_installed_with_the_constraints_and_extras_that_there_are() -> None:
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))["project"]
    assert "--constraint infra/constraints.txt --requirement requirements.txt" in TEXT
    extras = TEXT.partition("'.split(',')")[0].rpartition("'")[2].split(",")
    assert extras and set(extras) <= set(project["optional-dependencies"])


def test_it_is_not_root_here_or_on_kubernetes() -> None:
    assert f"\nUSER {USER_ID}:{USER_ID}\n" in TEXT.rpartition("\nFROM ")[2]
    assert f"\nWORKDIR {DATA}\n" in TEXT
    found = [pod for tree in trees().values() for pod in pods(tree)]
    for pod in found:
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), USER_ID),
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in pod["containers"]:
            security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
            assert container["securityContext"] == security
            assert container["workingDir"] == DATA
            assert {"name": "data", "mountPath": DATA} in container["volumeMounts"]
    assert found
    for service in read("compose.yaml")["services"].values():
        assert not service.keys() & {"user", "privileged", "cap_add", "security_opt"}
