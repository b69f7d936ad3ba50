"""Resources of the workers."""

from __future__ import annotations

import pytest
import ray

from intertitle.pipeline.errors import UserError
from intertitle.training.trainer.workers.placement import trains_on_gpus


@pytest.mark.parametrize(
    ("gpus", "workers", "on_gpus"), [(0, 1, False), (0, 8, False), (4, 1, True), (4, 4, True)]
)
def test_workers_train_on_gpus_where_there_are_any(
    gpus: int, workers: int, on_gpus: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": float(gpus)} if gpus else {})
    assert trains_on_gpus(workers) == on_gpus


@pytest.mark.parametrize(("gpus", "workers", "required"), [(4, 5, False), (0, 1, True)])
def test_fewer_gpus_than_workers_are_refused(
    gpus: int, workers: int, required: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": float(gpus)})
    with pytest.raises(UserError, match=f"workers: {workers}, allowed: at most {gpus}, one per"):
        trains_on_gpus(workers, required=required)
