"""Hosts whose clocks differ: what came later is the newer one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from intertitle.training.tracking import order
from intertitle.training.tracking.registry import retraining_runs
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import resolve_run


def test_what_a_host_whose_clock_is_ahead_began_before_is_not_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"

    def begin(slot: str) -> TrackedRun:
        return retraining_runs.begin_slot("moods", slot, {retraining_runs.CORPUS: slot}, {}, uri)

    with monkeypatch.context() as ahead:
        hour = order.now_ms() + 3_600_000
        ahead.setattr(order, "now_ms", lambda: hour)
        TrackedRun.start(uri, "runs", "same name").finish()
        run = begin("first")
        run.tags({retraining_runs.OUTCOME: "refused"})
        run.finish()
        stamp = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y%m%dT%H%M%S.%f")
    second = TrackedRun.start(uri, "runs", "same name")
    second.text(f"eval/test/beam_5/{stamp}/record.json", "{}")
    assert second.new_stamp("eval") > stamp > second.new_stamp("other")
    second.finish()
    assert resolve_run("same name", uri).run_id == second.run_id

    run = begin("second")
    run.tags({retraining_runs.OUTCOME: "promoted"})
    run.finish()
    assert retraining_runs.finished_slots("moods", uri) == ["second", "first"]
    assert retraining_runs.newest_corpus("moods", uri) == "second"
