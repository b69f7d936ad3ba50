"""What is installed: one import name, which loads nothing heavy and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import intertitle
from intertitle.training.tracking.environment import PACKAGES

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "ray", "mlflow", "typer")
# Prints the environment's changes and the heavy modules that an import leaves.
PROBE = """
import json, os, sys
before = dict(os.environ)
import {module}
heavy = [name for name in {heavy} if name in sys.modules]
print(json.dumps([[key for key in os.environ if before.get(key) != os.environ[key]], heavy]))
"""


def packages() -> list[str]:
    """The packages below the folders, by the names that they are imported by."""
    folders = [
        path.parent.relative_to(ROOT)
        for top in ("pipeline", "training", "jobs")
        for path in (ROOT / top).rglob("__init__.py")
    ]
    names = [".".join(("intertitle", *folder.parts)) for folder in folders]
    return sorted({"intertitle", *names} - {"intertitle.jobs.api"})


def test_every_folder_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert sorted(project["tool"]["setuptools"]["packages"]) == packages()


def test_data_of_the_packages_is_what_the_project_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    declared = project["tool"]["setuptools"]["package-data"]
    assert {name: list(data) for name, data in PACKAGES.items() if data} == declared


@pytest.mark.parametrize("module", ["intertitle", "intertitle.workflows"])
def test_an_import_changes_no_variable_and_loads_nothing_heavy(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout) == [[], []]


def test_the_help_of_the_program_needs_nothing_heavy() -> None:
    heavy = (*HEAVY[:-1], "numpy", "pyarrow", "pydantic", "fsspec", "upath", "av", "rich.progress")
    ended = subprocess.run(
        [sys.executable, "-c", PROBE.format(module="intertitle.jobs.cli", heavy=heavy)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout)[1] == []


def test_the_folders_are_no_packages_of_their_own(tmp_path: Path) -> None:
    names = ("pipeline", "training", "jobs")
    find = f"from importlib.util import find_spec; print(*map(find_spec, {names}))"
    ended = subprocess.run(
        [sys.executable, "-c", find], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.stdout == "None None None\n"


def test_the_facade_names_what_it_has() -> None:
    for name in intertitle.__all__:
        assert getattr(intertitle, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        intertitle.nothing  # noqa: B018


def test_processes_that_decode_load_neither_ray_nor_torch() -> None:
    module = "intertitle.pipeline.precompute.isolation.decoder_process"
    ended = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ended.stdout)[1] == []
