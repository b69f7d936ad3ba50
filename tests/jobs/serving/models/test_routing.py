"""Which model answers, and what happens when its replica dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from intertitle.jobs.serving.config import ModelConfig
from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models import routing
from intertitle.jobs.serving.models.replica import Answers
from intertitle.jobs.serving.models.routing import Route, ServeBackend
from tests.jobs.serving.backends import FakeBackend, text_queries

QUERIES = text_queries(2)


class Handle:
    """A handle of Serve whose replicas die, answer, or yield events and die."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.num_calls, self.num_cancelled = list(answers), 0, 0
        self.predict = self.stream = self

    def options(self, **_: Any) -> Handle:
        return self

    def remote(self, *_: Any) -> Any:
        self.num_calls += 1
        answer = self.answers.pop(0)
        return Events(self, answer) if isinstance(answer, list) else self._predict(answer)

    async def _predict(self, answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer


class Events:
    def __init__(self, handle: Handle, events: list[Any]) -> None:
        self._handle, self._events = handle, events

    async def __aiter__(self) -> AsyncIterator[Any]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event

    def cancel(self) -> None:
        self._handle.num_cancelled += 1


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_WAIT_S", 0.0)


def token(text: str) -> dict[str, Any]:
    return {"text": text, "token": text[-1], "probability": 0.5}


def test_a_request_whose_replica_dies_is_sent_to_one_other() -> None:
    handle: Any = Handle(ActorDiedError(), "answer")
    assert asyncio.run(ServeBackend(handle).predict(QUERIES)) == "answer"
    handle = Handle(ActorDiedError(), ActorDiedError(), "answer")
    with pytest.raises(ApiError, match="has died twice") as refused:
        asyncio.run(ServeBackend(handle).predict(QUERIES))
    # A job does not send it again.
    assert refused.value.retry_after_s is None and handle.num_calls == 2


async def read(backend: ServeBackend, events: list[Any]) -> None:
    async for event in backend.stream(QUERIES[0]):
        events.append(event)


@pytest.mark.parametrize(
    "continued",
    [
        [token("a"), token("ax"), token("axc"), {"result": {}}],
        [token("a"), {"result": {}}],
        [{"error": {}, "status": 422}],
    ],
)
def test_a_stream_is_continued_by_the_same_version_alone(continued: list[Any]) -> None:
    begun = [token("a"), token("ab"), ActorDiedError()]
    whole = [token("a"), token("ab"), token("abc"), {"result": {}}]
    handle: Any = Handle(begun, whole)
    events: list[Any] = []
    asyncio.run(read(ServeBackend(handle), events))
    assert events == whole
    events.clear()
    handle = Handle(begun, continued)
    with pytest.raises(ApiError, match="another version"):
        asyncio.run(read(ServeBackend(handle), events))
    assert events == begun[:2]


def test_a_stream_whose_caller_goes_away_is_cancelled() -> None:
    handle: Any = Handle([token("a"), token("ab"), token("abc")])

    async def leave() -> None:
        stream: Any = ServeBackend(handle).stream(QUERIES[0])
        assert await anext(stream) == token("a")
        await stream.aclose()

    asyncio.run(leave())
    assert handle.num_cancelled == 1


def answer(route: Route, num: int = 1) -> list[str]:
    """Runs that answer requests, after the shadow has."""

    async def work() -> list[str]:
        runs = [(await route.predict(QUERIES)).model.run for _ in range(num)]
        async with asyncio.timeout(10):
            while route._shadowing:
                await asyncio.sleep(0)
        return runs

    return asyncio.run(work())


def test_the_shadow_sees_what_the_model_answers_instead_of_a_missing_canary() -> None:
    config = ModelConfig(name="words", spec="main", canary_share=1.0)
    compared: list[tuple[str, str]] = []

    def compare(_: Any, main: Answers, shadow: Answers) -> None:
        compared.append((main.model.run, shadow.model.run))

    canary = FakeBackend(None)
    route = Route(config, FakeBackend("main"), canary, FakeBackend("shadow"), compare)
    assert answer(route) == ["main"]
    assert compared == [("main", "shadow")]
    canary.run = "canary"
    assert answer(route) == ["canary"]
    assert len(compared) == 1


def test_a_shadow_that_fails_or_has_too_much_to_answer_disturbs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [ActorDiedError(), ApiError(503, "server", "full", "try again")]
    shadow = FakeBackend("shadow", failures)
    route = Route(ModelConfig(name="words", spec="main"), FakeBackend("main"), shadow=shadow)
    assert answer(route, 2) == ["main"] * 2
    (record,) = caplog.records
    assert record.getMessage() == "words: the shadow failed"
    monkeypatch.setattr(routing, "_MAX_SHADOWED_BYTES", 2 * len("gut") * 3)
    assert answer(route, 5) == ["main"] * 5
    assert shadow.num_calls == 5
