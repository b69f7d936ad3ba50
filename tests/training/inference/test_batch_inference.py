"""How often the workers of a long prediction may die."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from intertitle.training.inference import batch_inference
from intertitle.training.inference.batch_inference import MAX_FAILURES


def test_a_job_of_many_parts_may_lose_more_workers_than_one_of_few(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options: dict[str, Any] = {}

    def remote(**given: Any) -> Any:
        options.update(given)
        return lambda worker: SimpleNamespace(remote=lambda *_: None)

    monkeypatch.setattr(batch_inference.ray, "remote", remote)
    monkeypatch.setattr(batch_inference, "cpus_per_worker", lambda workers: 1)
    monkeypatch.setattr(batch_inference, "trains_on_gpus", lambda workers: False)
    job: Any = None
    batch_inference._start(job, 2, 100)
    assert options["max_restarts"] == 100 * MAX_FAILURES
    assert options["max_task_retries"] == MAX_FAILURES
