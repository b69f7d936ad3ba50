"""What Serve's proxy reads of a body before the application answers."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from intertitle.jobs.serving.http.proxy import BYTES_VARIABLE, middlewares, set_limit


@pytest.mark.parametrize(("size", "num_read"), [(30, 3), (100, 4)])
def test_no_more_is_read_than_shows_that_a_body_is_too_large(
    size: int, num_read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment: dict[str, str] = {}
    set_limit(environment, 30)
    monkeypatch.setenv(BYTES_VARIABLE, environment[BYTES_VARIABLE])
    (middleware,) = middlewares()
    sizes: list[int] = []

    async def receive() -> Message:
        sizes.append(10)
        more = sum(sizes) < size
        return {"type": "http.request", "body": b" " * 10, "more_body": more}

    async def drain(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass

    async def is_drained() -> bool:
        limited = middleware.cls(drain, *middleware.args, **middleware.kwargs)
        task = asyncio.ensure_future(limited({"type": "http"}, receive, receive))
        for _ in range(100):
            await asyncio.sleep(0)
        return task.done()

    assert asyncio.run(is_drained()) == (size <= 30)
    assert len(sizes) == num_read
