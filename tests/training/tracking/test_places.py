"""Where a store is: made by several at once, in folders of any name, moved, of another MLflow."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from intertitle.pipeline.errors import UserError
from intertitle.training.runs.train import train
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import (
    check_store,
    default_tracking_uri,
    download,
    open_client,
    resolve_run,
)
from intertitle.training.tracking.store.sqlite import absolute, database, sqlite_uri
from tests.training.conftest import small_recipe

PROGRAM = """
import sys, time
from pathlib import Path
import mlflow, mlflow.store.tracking.sqlalchemy_store  # takes seconds, not the same in both
from intertitle.training.tracking.run import TrackedRun
Path(sys.argv[2] + ".ready").touch()
while not Path("go").exists():
    time.sleep(0.001)
with TrackedRun.start(sys.argv[1], "first", sys.argv[2], {"a": 1}) as run:
    run.metrics({"loss": 1.0}, 1)
"""


def test_two_that_begin_where_there_is_no_database_both_run(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, uri, name],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    while len(list(tmp_path.glob("*.ready"))) < 2:
        assert all(process.poll() is None for process in running)
    (tmp_path / "go").touch()
    for process in running:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert {resolve_run(name, uri).name for name in ("one", "two")} == {"one", "two"}


def test_a_folder_of_any_name_holds_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a%20b?c#d ü@:e%"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = default_tracking_uri()
    assert uri == sqlite_uri(folder / "mlflow.db") == absolute("sqlite:///mlflow.db")
    assert database(uri) == database("sqlite:///mlflow.db") == folder / "mlflow.db"
    program = (
        "from intertitle.training.tracking.run import *\n"
        "with TrackedRun.start(default_tracking_uri(), 'named', 'run') as run:\n"
        "    run.text('notes/said.txt', 'said')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    # MLflow itself leaves an empty folder of another name.
    assert list(tmp_path.iterdir()) == [folder]
    assert {path.name for path in folder.iterdir()} == {"mlflow.db", "mlartifacts"}
    assert (download(resolve_run("run", uri), "notes") / "said.txt").read_text() == "said"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without runs, to copy: MLflow takes seconds to create one."""
    file = tmp_path_factory.mktemp("a store") / "mlflow.db"
    open_client(sqlite_uri(file))
    return file


def test_a_project_that_was_moved_is_told_where_its_artifacts_were(
    empty: Path, tmp_path: Path
) -> None:
    old, new = tmp_path / "old name", tmp_path / "new"
    old.mkdir()
    shutil.copy(empty, old)
    with TrackedRun.start(f"sqlite:///{old}/mlflow.db", "moved", "run") as run:
        run.text("model/weights", "weights")
        with pytest.raises(
            UserError, match=rf"'nothing'; it has: model; its artifacts are in {old}"
        ):
            download(run.ref, "nothing")
    old.rename(new)
    uri = f"sqlite:///{new}/mlflow.db"
    with pytest.raises(UserError) as refused:
        download(resolve_run("run", uri), "model")
    told = str(refused.value)
    assert told.startswith(
        f"run run: no folder 'model'; it has: none; its artifacts were in {old}/"
    )
    assert "which is not there" in told
    # What it advises mends it.
    subprocess.run(["sh", "-c", told.partition("now: ")[2]], check=True)
    assert (download(resolve_run("run", uri), "model") / "weights").read_text() == "weights"


def test_a_database_of_another_mlflow_is_one_line_before_any_work(
    empty: Path, tmp_path: Path
) -> None:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    missing = f"sqlite:///{tmp_path}/mlflow.db"
    check_store(missing)
    assert not list(tmp_path.iterdir())
    check_store(sqlite_uri(empty))
    script = ScriptDirectory.from_config(_get_alembic_config(""))
    older = script.get_revision(script.get_heads()[0]).down_revision
    command = "keep a copy of it, then run: .*mlflow db upgrade sqlite:///"
    for version, told in ((older, command), ("ffffffffffff", "of a newer MLflow than ")):
        file = tmp_path / f"{version}.db"
        shutil.copy(empty, file)
        with sqlite3.connect(file) as opened:
            opened.execute("UPDATE alembic_version SET version_num = ?", (version,))
        for ask in (
            check_store,
            partial(resolve_run, "run"),
            partial(train, small_recipe(), tmp_path, None, workers=1, checkpoints=tmp_path),
        ):
            with pytest.raises(UserError, match=told) as refused:
                ask(tracking_uri=sqlite_uri(file))
            assert "\n" not in str(refused.value)
