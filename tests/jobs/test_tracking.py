"""The store that a command uses, and how the next command finds it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from intertitle.jobs.tracking import store_option, tracking_store
from intertitle.training.tracking.store.client import absolute
from intertitle.training.tracking.store.sqlite import sqlite_uri


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("folder", ["demo", "my demo", "100% #1 é"])
def test_the_option_names_a_store_below_this_folder(folder: str, here: Path) -> None:
    uri = sqlite_uri(here / folder / "mlflow.db")
    option, value = shlex.split(store_option(uri))
    assert option == "--tracking-uri"
    assert not value.startswith("sqlite:////")
    assert absolute(value) == uri


def test_the_option_is_left_out_for_the_store_of_the_project(here: Path) -> None:
    assert store_option(sqlite_uri(here / "mlflow.db")) == ""
    elsewhere = "sqlite:////elsewhere/mlflow.db"
    assert store_option(elsewhere) == f" --tracking-uri {elsewhere}"
    server = "https://user:secret@mlflow.example"
    assert store_option(server) == " --tracking-uri 'https://user:***@mlflow.example'"


def test_a_store_of_a_folder_above_is_printed(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tracking_store(None) == sqlite_uri(here / "mlflow.db")
    assert capsys.readouterr().err == ""
    (here / "mlflow.db").touch()
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    assert tracking_store(None) == sqlite_uri(here / "mlflow.db")
    assert capsys.readouterr().err == f"runs: {here}/mlflow.db\n"
    assert tracking_store("sqlite:///own.db") == "sqlite:///own.db"
    assert capsys.readouterr().err == ""
