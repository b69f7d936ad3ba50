"""A store with an untrained model of each task, and an application that answers with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from intertitle.jobs.serving.config import LimitConfig, ModelConfig, ServerConfig
from tests.jobs.serving.tiny_models import NAMES, client, log_evaluated_run, log_run, make_models


@pytest.fixture(scope="session", autouse=True)
def batches_without_ray() -> Iterator[None]:
    """Batches of `serve.batch` in this process: outside a replica it has no context to look at."""
    with pytest.MonkeyPatch.context() as patch:
        check = "_warn_if_max_batch_size_exceeds_max_ongoing_requests"
        patch.setattr(f"ray.serve.batching._BatchQueue.{check}", lambda self: None)
        yield


@pytest.fixture(scope="session")
def store(onnx_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tracking URI of a store with a run for each of `NAMES`; the captioner has an evaluation."""
    folder = tmp_path_factory.mktemp("served")
    for name, trained in make_models().items():
        log = log_evaluated_run if name == "captioner" else log_run
        log(folder, name, trained)
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="session")
def config(store: str) -> ServerConfig:
    models = tuple(ModelConfig(name=name, spec=name) for name in NAMES)
    limits = LimitConfig(body_bytes=2 * 2**20, max_pixels=4_000_000, seconds=20)
    return ServerConfig(models=models, tracking_uri=store, limits=limits)


@pytest.fixture(scope="session")
def api(config: ServerConfig) -> Iterator[TestClient]:
    with client(config) as opened:
        yield opened
