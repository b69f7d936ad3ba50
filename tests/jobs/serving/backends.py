"""Backends without a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.replica import Answers
from intertitle.jobs.serving.schemas import AnsweredBy, ModelDetails, Options, Result


class FakeBackend:
    """Answers with the name of its run, once its failures are over; without a run, not at all."""

    def __init__(self, run: str | None, failures: Sequence[Exception] = ()) -> None:
        self.run, self.failures = run, list(failures)
        self.num_calls = 0

    async def predict(self, queries: list[Query]) -> Answers | None:
        self._call()
        if self.run is None:
            return None
        model = AnsweredBy(name="words", spec=self.run, version=None, run_id=self.run, run=self.run)
        return Answers(model, [Result(input="", text=self.run) for _ in queries])

    async def stream(self, query: Query) -> AsyncIterator[dict[str, Any]]:
        self._call()
        yield {"text": self.run}

    async def details(self) -> ModelDetails | None:
        self._call()
        return None

    async def events(self, since: float) -> list[tuple[float, str]]:
        return []

    def _call(self) -> None:
        self.num_calls += 1
        if self.failures:
            raise self.failures.pop(0)


def text_queries(num: int, text: str = "gut") -> list[Query]:
    return [Query("", text, None, n, Options()) for n in range(num)]
