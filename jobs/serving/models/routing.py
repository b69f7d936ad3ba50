"""Choice of the model that answers a request: the model itself, its canary, and its shadow."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Protocol

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from intertitle.jobs.serving.config import ModelConfig
from intertitle.jobs.serving.errors import ApiError, full
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.replica import Answers
from intertitle.jobs.serving.schemas import ModelDetails

_log = logging.getLogger(__name__)
# A replica that dies is restarted, and its requests are sent to another one: once, because one of
# them may be what it has died of. The router learns of a death within a second.
_TRIES, _WAIT_S = 2, 1.0
# Requests that the shadow has not answered yet, and their size; further ones are not sent to it.
_MAX_SHADOWED, _MAX_SHADOWED_BYTES = 32, 64 * 2**20

Compare = Callable[[list[Query], Answers, Answers], None]


class Backend(Protocol):
    """A model that answers requests."""

    async def predict(self, queries: list[Query]) -> Answers | None:
        """Answer the inputs of a request; None if there is no model."""
        ...

    def stream(self, query: Query) -> AsyncIterator[dict[str, Any]]:
        """Generate the output of one input; yield events."""
        ...

    async def details(self) -> ModelDetails | None:
        """Describe the model; None if there is none."""
        ...

    async def events(self, since: float) -> list[tuple[float, str]]:
        """Return what happened to the model after a time."""
        ...


class ServeBackend:
    """Replicas of a model on Ray Serve.

    Args:
        handle: handle of their deployment.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def predict(self, queries: list[Query]) -> Answers | None:
        """Answer the inputs of a request; a request whose replica dies is sent to another one.

        Raises:
            ApiError: the queue is full, or replicas keep dying.
        """
        answers: Answers | None = await self._call("predict", queries)
        return answers

    async def details(self) -> ModelDetails | None:
        """Describe the model; None if there is none."""
        details: ModelDetails | None = await self._call("details")
        return details

    async def events(self, since: float) -> list[tuple[float, str]]:
        """Return what happened to the model after a time."""
        events: list[tuple[float, str]] = await self._call("events", since)
        return events

    async def stream(self, query: Query) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of one input; another replica repeats those of one that dies.

        Those that the caller has are left out, if the text is the same: that of another version
        may be another one.

        Raises:
            ApiError: it is another one, the queue is full, or replicas keep dying.
        """
        num_sent, sent_text = 0, ""
        for trial in range(_TRIES):
            response = self._handle.options(stream=True).stream.remote(query)
            try:
                number = 0
                async for event in response:
                    number += 1
                    if number > num_sent:
                        num_sent, sent_text = number, event.get("text", "")
                        yield event
                        if "text" not in event:
                            return
                    elif "text" not in event or (number == num_sent and event["text"] != sent_text):
                        allowed = "try again: another version of the model answers now"
                        raise ApiError(503, "model", "interrupted", allowed, retry_after_s=1)
                return
            except (BackPressureError, DeploymentUnavailableError) as error:
                raise full("try again") from error
            except RayActorError as error:
                await _wait(trial, error)
            finally:
                # If the caller has gone, the replica stops generating.
                with suppress(Exception):
                    response.cancel()

    async def _call(self, method: str, *arguments: object) -> Any:
        for trial in range(_TRIES):
            try:
                return await getattr(self._handle, method).remote(*arguments)
            except (BackPressureError, DeploymentUnavailableError) as error:
                raise full("try again") from error
            except RayActorError as error:
                await _wait(trial, error)
        raise AssertionError("unreachable")


async def _wait(trial: int, error: Exception) -> None:
    """Wait before the next trial.

    Raises:
        ApiError: there is none.
    """
    if trial + 1 == _TRIES:
        allowed = "inputs that do not end the process of the model; see the server's log"
        raise ApiError(503, "model", "has died twice", allowed) from error
    await asyncio.sleep(_WAIT_S)


class Route:
    """A model in URLs, with its canary and its shadow.

    Args:
        config: settings of the model.
        main: the model.
        canary: model that answers a share of the requests instead; None if there is none.
        shadow: model that answers a share of them too; None if there is none.
        compare: callback for the answers of both, called with the inputs.
    """

    def __init__(
        self,
        config: ModelConfig,
        main: Backend,
        canary: Backend | None = None,
        shadow: Backend | None = None,
        compare: Compare | None = None,
    ) -> None:
        self.config, self.main, self.canary, self.shadow = config, main, canary, shadow
        self._compare = compare
        # Tasks, and the size of the inputs that each of them holds.
        self._shadowing: dict[asyncio.Task[None], int] = {}

    async def predict(self, queries: list[Query], backend: Backend | None = None) -> Answers:
        """Answer the inputs of a request.

        Args:
            queries: inputs.
            backend: backend of `choose`, for one that answers several times; None chooses one.
        """
        chosen = backend or self.choose()
        answers = None if chosen is self.main else await chosen.predict(queries)
        if answers is not None:
            # The answers of a canary are not compared: it may be the model in the shadow itself.
            return answers
        answers = await self.main.predict(queries)
        assert answers is not None, "the model itself is never missing"
        if self.shadow is not None and random.random() < self.config.shadow_share:
            self._start_shadow(self.shadow, queries, answers)
        return answers

    async def stream(self, query: Query) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of one input."""
        chosen = self.choose()
        is_empty = True
        async for event in chosen.stream(query):
            is_empty = False
            yield event
        if is_empty and chosen is not self.main:
            async for event in self.main.stream(query):
                yield event

    def backends(self) -> list[Backend]:
        """Return the model, its canary and its shadow, as far as there are any."""
        return [backend for backend in (self.main, self.canary, self.shadow) if backend]

    def choose(self) -> Backend:
        """Choose between the model and its canary."""
        if self.canary is not None and random.random() < self.config.canary_share:
            return self.canary
        return self.main

    def _start_shadow(self, shadow: Backend, queries: list[Query], answers: Answers) -> None:
        """Let the shadow answer too, in the background, unless it has too much to answer."""
        size = sum(query.num_bytes() for query in queries)
        if (
            len(self._shadowing) >= _MAX_SHADOWED
            or sum(self._shadowing.values()) + size > _MAX_SHADOWED_BYTES
        ):
            return
        task = asyncio.create_task(self._answer_in_background(shadow, queries, answers))
        self._shadowing[task] = size
        task.add_done_callback(self._end_shadow)

    async def _answer_in_background(
        self, shadow: Backend, queries: list[Query], answers: Answers
    ) -> None:
        shadowed = await shadow.predict(queries)
        if shadowed is not None and self._compare is not None:
            self._compare(queries, answers, shadowed)

    def _end_shadow(self, task: asyncio.Task[None]) -> None:
        """Forget a shadow's task; an error of the shadow concerns no caller, and is logged."""
        del self._shadowing[task]
        error = None if task.cancelled() else task.exception()
        # A shadow that is busy or gone refuses inputs, as any model does.
        if error is not None and not isinstance(error, ApiError):
            _log.error("%s: the shadow failed", self.config.name, exc_info=error)
