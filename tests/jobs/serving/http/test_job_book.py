"""Jobs: which model answers them, and what is kept of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from intertitle.jobs.serving.config import ModelConfig
from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.http import job_book
from intertitle.jobs.serving.http.capacity import Capacity
from intertitle.jobs.serving.http.job_book import JobBook
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.routing import Route
from intertitle.jobs.serving.schemas import JobStatus
from tests.jobs.serving.backends import FakeBackend, text_queries

BUSY = ApiError(503, "server", "full", "try again", retry_after_s=0)
CONFIG = ModelConfig(name="words", spec="main", canary_share=0.5)


def run(work: Callable[[JobBook], Coroutine[Any, Any, None]], capacity: int = 1000) -> None:
    async def in_loop() -> None:
        await work(JobBook(Capacity(capacity)))

    asyncio.run(in_loop())


async def start(book: JobBook, route: Route, queries: list[Query]) -> JobStatus:
    """Start a job and wait for its end."""
    status = book.start(route, queries)
    async with asyncio.timeout(10):
        while status.state == "running":
            await asyncio.sleep(0)
            status = book.status(status.id)
    return status


def test_a_job_waits_for_a_busy_model_and_ends_with_a_broken_one() -> None:
    main = FakeBackend("main", [BUSY, BUSY])
    route = Route(CONFIG, main)

    async def work(book: JobBook) -> None:
        status = await start(book, route, text_queries(3))
        assert (status.state, status.done, main.num_calls) == ("finished", 3, 3)
        main.failures = [RuntimeError("a defect")]
        status = await start(book, route, text_queries(3))
        assert status.state == "failed" and status.error is not None
        assert status.error.value == "RuntimeError"

    run(work)


def test_one_of_model_and_canary_answers_a_job_and_each_result_names_its_run() -> None:
    class Moving(FakeBackend):
        """A model whose alias moves after each answer."""

        def _call(self) -> None:
            super()._call()
            self.run = f"{self.num_calls}"

    route = Route(CONFIG, Moving("main"), FakeBackend("canary"))

    async def work(book: JobBook) -> None:
        kinds = []
        for _ in range(20):
            status = await start(book, route, text_queries(12))
            runs = {result.model.run for result in status.results}
            kinds.append(runs == {"canary"})
            # A run for each chunk.
            assert kinds[-1] or (len(runs) == 3 and "canary" not in runs)
            assert all(result.text == result.model.run for result in status.results)
        assert set(kinds) == {True, False}

    run(work)


def test_the_inputs_of_running_jobs_are_limited() -> None:
    route = Route(CONFIG, FakeBackend("main"))

    async def work(book: JobBook) -> None:
        queries = text_queries(2, "x" * 20)
        with pytest.raises(ApiError, match="60 bytes of all requests"):
            await asyncio.gather(start(book, route, queries), start(book, route, queries))
        async with asyncio.timeout(10):
            while True:
                try:
                    assert (await start(book, route, queries)).state == "finished"
                    return
                except ApiError:
                    await asyncio.sleep(0)

    run(work, capacity=60)


def test_the_results_that_are_kept_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    route = Route(CONFIG, FakeBackend("main"))

    async def work(book: JobBook) -> None:
        async def ended(num: int) -> str:
            return (await start(book, route, text_queries(num))).id

        first = await ended(1)
        size = len(book.status(first).results[0].model_dump_json())
        monkeypatch.setattr(job_book, "_MAX_RESULT_BYTES", 9 * size)
        second = await ended(8)
        assert book.status(first).done == 1
        # The oldest one makes room, and what does not fit alone is not computed further.
        third = await ended(2)
        for gone in (first, second):
            with pytest.raises(ApiError, match="started lately"):
                book.status(gone)
        status = book.status(await ended(20))
        assert (status.state, status.done) == ("failed", 8) and status.error is not None
        assert status.error.allowed.startswith("inputs whose results fit")
        # It has cost nobody else's results more than its own first eight.
        with pytest.raises(ApiError):
            book.status(third)

    run(work)
