"""A server with a page, and a browser."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from selenium import webdriver

from intertitle.jobs.serving.config import ServerConfig
from intertitle.jobs.serving.http.app import create_app
from intertitle.jobs.serving.records.records import open_records
from intertitle.pipeline.corpus import Corpus
from tests.browser import open_browser
from tests.jobs.serving.tiny_models import noise_png, route_of
from tests.ports import free_ports


@contextmanager
def page_server(config: ServerConfig) -> Iterator[str]:
    """The URL of a server whose models are in this process."""
    routes = {model.name: route_of(config, model) for model in config.models}
    (port,) = free_ports(1)
    app = create_app(config, routes, open_records(config))
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="error", timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def feedback(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="module")
def url(
    config: ServerConfig,
    clips: Path,
    feedback: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    examples = tmp_path_factory.mktemp("examples")
    for seed in range(2):
        (examples / f"{seed}.png").write_bytes(noise_png(seed, (320, 240)))
    corpus = Corpus(clips)
    video = corpus.locate(next(iter(corpus.items())))
    (examples / f"clip{video.suffix}").write_bytes(video.read_bytes())
    # The captioner is its own challenger, which no request is sent to instead.
    models = tuple(
        model.model_copy(update={"canary": model.spec}) if model.name == "captioner" else model
        for model in config.models
    )
    settings = {
        "models": models,
        "page": True,
        "feedback": str(feedback),
        "examples": str(examples),
    }
    with page_server(config.model_copy(update=settings)) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with open_browser() as started:
        started.set_window_size(1440, 1000)
        yield started
