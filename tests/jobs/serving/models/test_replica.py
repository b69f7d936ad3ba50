"""A replica follows its alias, while it answers, and whatever is wrong with the new version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from intertitle.jobs.serving.config import ModelConfig, ServerConfig, parse_models
from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models.predictor import Predictor, Prepared, Query
from intertitle.jobs.serving.models.replica import Replica
from intertitle.jobs.serving.models.routing import Route
from intertitle.jobs.serving.records.shadow import EXPERIMENT, ShadowRecorder
from intertitle.jobs.serving.schemas import Options, Result
from intertitle.training.tracking.artifacts import read_table
from intertitle.training.tracking.registry.registry import challenge, promote
from intertitle.training.tracking.run import TrackedRun
from intertitle.training.tracking.store.client import RunRef, download, open_client, resolve_run
from tests.jobs.serving.tiny_models import log_run, make_models

T = TypeVar("T")
QUERY = Query("", "gut", None, 0, Options())


@pytest.fixture
def runs(tmp_path: Path) -> list[RunRef]:
    """Two runs of a classifier; the first one is the champion."""
    trained = make_models()["classifier"]
    refs = [log_run(tmp_path, name, trained) for name in ("first", "second")]
    promote(refs[0], "words")
    return refs


def settings(uri: str, **options: Any) -> ServerConfig:
    chosen = {"canary": None, "shadow": None, "shadow_share": "100%", **options}
    models = parse_models(["models:/words@champion"], **chosen)
    return ServerConfig(models=models, tracking_uri=uri, follow_seconds=0.1)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def answered_by(replica: Replica | Route) -> tuple[str, str | None]:
    answers = await replica.predict([QUERY])
    assert answers is not None and answers.results[0].text
    return answers.model.run, answers.model.version


def test_the_new_champion_takes_over_and_no_request_is_lost(runs: list[RunRef]) -> None:
    config = settings(runs[0].tracking_uri)

    async def work() -> None:
        replica = Replica(config, config.models[0], config.models[0].spec)
        assert await answered_by(replica) == ("first", "1")
        moving = asyncio.create_task(asyncio.to_thread(promote, runs[1], "words"))
        seen = []
        while not seen or seen[-1][0] != "second":
            seen.append(await answered_by(replica))
        await moving
        assert set(seen) == {("first", "1"), ("second", "2")}
        ((_, line),) = await replica.events(0)
        assert line.endswith("version 2, run second answers instead of version 1, run first")

    run(work())


def test_requests_at_the_same_time_are_answered_in_batches(
    runs: list[RunRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(runs[0].tracking_uri)
    sizes, answer = [], Predictor.answer

    def counted(predictor: Predictor, prepared: Sequence[Prepared]) -> list[Result | ApiError]:
        sizes.append(len(prepared))
        return answer(predictor, prepared)

    monkeypatch.setattr(Predictor, "answer", counted)

    async def work() -> None:
        replica = Replica(config, config.models[0], config.models[0].spec)
        await asyncio.gather(*(replica.predict([QUERY]) for _ in range(50)))
        assert sum(sizes) == 50 and len(sizes) <= 25

    run(work())


def test_a_version_that_cannot_be_loaded_does_not_take_over(runs: list[RunRef]) -> None:
    config = settings(runs[0].tracking_uri)

    async def work() -> None:
        replica = Replica(config, config.models[0], config.models[0].spec)
        with TrackedRun.start(runs[0].tracking_uri, "serving", "empty") as empty:
            empty.text("model/nothing.txt", "")
        promote(empty.ref, "words")
        await until(lambda: bool(replica._events))
        assert await answered_by(replica) == ("first", "1")
        promote(runs[1], "words")
        await until(lambda: len(replica._events) == 2)
        assert await answered_by(replica) == ("second", "3")

    run(work())


def test_a_store_that_is_away_is_told_once(runs: list[RunRef], tmp_path: Path) -> None:
    config = settings(runs[0].tracking_uri)

    async def work() -> None:
        replica = Replica(config, config.models[0], config.models[0].spec)
        (tmp_path / "mlflow.db").rename(tmp_path / "away.db")
        await until(lambda: bool(replica._events))
        await asyncio.sleep(0.5)
        assert await answered_by(replica) == ("first", "1")
        ((_, line),) = await replica.events(0)
        assert "there are no runs yet" in line and line.endswith("run first keeps answering")
        (tmp_path / "away.db").rename(tmp_path / "mlflow.db")
        promote(runs[1], "words")
        await until(lambda: len(replica._events) == 2)
        assert await answered_by(replica) == ("second", "2")

    run(work())


def route(config: ServerConfig, recorder: ShadowRecorder | None = None) -> Route:
    model: ModelConfig = config.models[0]
    backends = [
        spec and Replica(config, model, spec) for spec in (model.spec, model.canary, model.shadow)
    ]
    return Route(model, *backends, compare=recorder.compare if recorder else None)


def test_a_canary_answers_its_share_once_there_is_a_challenger(runs: list[RunRef]) -> None:
    config = settings(runs[0].tracking_uri, canary="50%")

    async def work() -> None:
        routed = route(config)
        assert {await answered_by(routed) for _ in range(20)} == {("first", "1")}
        challenge(runs[1], "words")
        canary: Any = routed.canary
        await until(lambda: canary._loaded is not None)
        names = [(await answered_by(routed))[0] for _ in range(200)]
        assert 60 < names.count("second") < 140

    run(work())


def test_a_shadow_answers_in_the_dark_and_mlflow_gets_both(runs: list[RunRef]) -> None:
    challenge(runs[1], "words")
    uri = runs[0].tracking_uri
    config = settings(uri, shadow="models:/words@challenger")
    recorder = ShadowRecorder(uri, "words")

    async def work() -> None:
        routed = route(config, recorder)
        assert {await answered_by(routed) for _ in range(3)} == {("first", "1")}
        await until(lambda: not routed._shadowing)

    run(work())
    recorder.close()
    logged = resolve_run("shadow-words", uri)
    client = open_client(uri)
    stored = client.get_run(logged.run_id)
    assert client.get_experiment(stored.info.experiment_id).name == EXPERIMENT
    assert stored.data.metrics["agreement"] == 100
    rows = read_table(download(logged, "shadow") / "00000001.json")
    assert [(row["run"], row["shadow_run"], row["input"]) for row in rows] == [
        ("first", "second", "gut")
    ] * 3
    assert all(row["text"] == row["shadow_text"] for row in rows)
