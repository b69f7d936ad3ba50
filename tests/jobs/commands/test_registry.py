"""`intertitle promote` and `intertitle rollback`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from intertitle.training.tracking.run import TrackedRun
from tests.conftest import Ended


def test_a_run_becomes_the_champion_and_goes_again(
    tmp_path: Path, intertitle: Callable[..., Ended]
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    ids = []
    for name in ("old", "new"):
        with TrackedRun.start(uri, "commands", name, tags={"recipe": "s2vt"}) as run:
            run.text("model/weights.txt", name)
        ids.append(run.run_id)

    def call(*arguments: str) -> Ended:
        return intertitle(*arguments, "--tracking-uri", uri)

    assert call("promote", "old").out == f"models:/s2vt@champion is version 1 (run {ids[0]})\n"
    ended = call("promote", "new", "--challenger", "--why", "to be tried")
    assert ended.out == f"models:/s2vt@challenger is version 2 (run {ids[1]})\n"
    ended = call("promote", "models:/s2vt@challenger", "--why", "better", "--json")
    assert json.loads(ended.out.splitlines()[-1]) == {
        "model": "s2vt",
        "version": "2",
        "run_id": ids[1],
        "changed": True,
        "alias": "champion",
    }
    assert "is version 2 already: nothing changed (run" in call("promote", "new").out
    ended = call("rollback", "s2vt", "--why", "worse")
    assert ended.out == f"models:/s2vt@champion is version 1 (run {ids[0]})\n"
    ended = call("rollback", "s2vt")
    assert (ended.code, ended.out) == (2, "")
    assert "model 's2vt': there was no other champion before" in ended.err
