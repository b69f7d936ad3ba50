"""Process that holds a model, answers several callers at once, and follows an alias."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ray import serve

from intertitle.jobs.serving.config import ModelConfig, ServerConfig, followed_model
from intertitle.jobs.serving.errors import ApiError
from intertitle.jobs.serving.models.loading import (
    LoadedModel,
    ModelVersion,
    has_alias,
    load,
    resolve_version,
)
from intertitle.jobs.serving.models.predictor import Prepared, Query
from intertitle.jobs.serving.schemas import AnsweredBy, InputError, ModelDetails, Result
from intertitle.pipeline.errors import one_line
from intertitle.training.evaluation.answers import ANSWER_BATCH

_log = logging.getLogger(__name__)
# Time that a batch waits for further callers while the model is idle.
_WAIT_S = 0.002
_MAX_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers to the inputs of a request.

    Attributes:
        model: model that answered.
        results: results in the order of the inputs.
    """

    model: AnsweredBy
    results: list[Result]


class Replica:
    """Process that holds one model.

    When the alias that it follows moves, it loads the new version in the background and then
    answers with it; each request is finished by the version that started it.

    Args:
        config: settings of the server.
        model: model to answer with.
        spec: reference of the model: that of `model`, or of its canary or shadow.

    Raises:
        UserError: the model cannot be loaded.
    """

    def __init__(self, config: ServerConfig, model: ModelConfig, spec: str) -> None:
        self._config, self._model, self._spec = config, model, spec
        # The alias of a canary or a shadow may be missing: requests are left to the model then.
        self._is_optional = spec != model.spec
        self._events: deque[tuple[float, str]] = deque(maxlen=_MAX_EVENTS)
        self._decoding = ThreadPoolExecutor(config.limits.decoders, "decode")
        self._computing = ThreadPoolExecutor(1, "compute")
        self._streaming = ThreadPoolExecutor(4, "stream")
        # A batch for each instance: the decorator of a method makes one for all of a process.
        self._search = serve.batch(max_batch_size=ANSWER_BATCH, batch_wait_timeout_s=_WAIT_S)(
            self._search_batch
        )
        self._loaded = self._load(self._newest())
        if followed_model(spec) is not None:
            threading.Thread(target=self._follow, name="follow", daemon=True).start()

    async def predict(self, queries: list[Query]) -> Answers | None:
        """Answer the inputs of a request; None if there is no model."""
        loaded = self._loaded
        if loaded is None:
            return None
        results = await asyncio.gather(*(self._answer(loaded, query) for query in queries))
        return Answers(self._answered_by(loaded), list(results))

    async def stream(self, query: Query) -> AsyncIterator[dict[str, Any]]:
        """Generate the output of one input; yield events, see `Predictor.stream`.

        An error is an event too, because the first event decides about the status of the response.
        """
        loaded, loop = self._loaded, asyncio.get_running_loop()
        if loaded is None:
            return
        try:
            prepared = await loop.run_in_executor(self._decoding, loaded.predictor.prepare, query)
            tokens = loaded.predictor.stream(prepared)
            while (event := await loop.run_in_executor(self._streaming, _next, tokens)) is not None:
                if "result" in event:
                    event = {**event, "model": self._answered_by(loaded).model_dump()}
                yield event
        except ApiError as error:
            yield {"error": error.body(), "status": error.status}

    async def details(self) -> ModelDetails | None:
        """Describe the model; None if there is none."""
        return self._loaded.details if self._loaded else None

    async def events(self, since: float) -> list[tuple[float, str]]:
        """Return the moves of the alias after a time, and failures to follow it, as lines."""
        return [event for event in self._events if event[0] > since]

    async def _search_batch(
        self, items: list[tuple[LoadedModel, Prepared]]
    ) -> list[Result | ApiError]:
        """Answer inputs of several callers; those of a version that is replaced keep it."""
        by_version: dict[int, list[int]] = {}
        for n, (loaded, _) in enumerate(items):
            by_version.setdefault(id(loaded), []).append(n)
        results: dict[int, Result | ApiError] = {}
        for numbers in by_version.values():
            predictor = items[numbers[0]][0].predictor
            answers = await asyncio.get_running_loop().run_in_executor(
                self._computing, predictor.answer, [items[n][1] for n in numbers]
            )
            results |= zip(numbers, answers, strict=True)
        return [results[n] for n in range(len(items))]

    async def _answer(self, loaded: LoadedModel, query: Query) -> Result:
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(
                self._decoding, loaded.predictor.prepare, query
            )
            answer: Result | ApiError = await self._search((loaded, prepared))
        except ApiError as error:
            answer = error
        if isinstance(answer, ApiError):
            name = query.name or query.text or ""
            return Result(input=name, error=InputError(**answer.body(), status=answer.status))
        return answer

    def _answered_by(self, loaded: LoadedModel) -> AnsweredBy:
        version = loaded.version
        return AnsweredBy(
            name=self._model.name,
            spec=self._spec,
            version=version.version,
            run_id=version.run.run_id,
            run=version.run.name,
        )

    def _newest(self) -> ModelVersion | None:
        """Return the version that the reference names now; None if an optional one is missing.

        Raises:
            UserError: there is none, or the store does not answer.
        """
        uri = self._config.tracking_uri
        if self._is_optional and not has_alias(self._spec, uri):
            return None
        return resolve_version(self._spec, uri)

    def _load(self, version: ModelVersion | None) -> LoadedModel | None:
        if version is None:
            return None
        return load(self._model.name, version, self._config.limits)

    def _follow(self) -> None:
        """Follow the alias; one line is logged for a move, and one for each kind of failure."""
        reported: ModelVersion | str = ""
        while True:
            time.sleep(self._config.follow_seconds)
            failing: ModelVersion | str = "store"
            try:
                version = self._newest()
                if version == (self._loaded.version if self._loaded else None):
                    reported = ""
                    continue
                failing = version or "store"
                loaded = self._load(version)
            except Exception as error:
                # Whatever is wrong with the store or the new version, the current one answers.
                if failing != reported:
                    reported = failing
                    self._log(f"{one_line(str(error))}; {self._name()} keeps answering")
                continue
            reported, before, self._loaded = "", self._name(), loaded
            self._log(f"{self._name()} answers instead of {before}")

    def _name(self) -> str:
        return str(self._loaded.version) if self._loaded else "nothing"

    def _log(self, text: str) -> None:
        line = f"{self._model.name} ({self._spec}): {text}"
        _log.warning(line)
        self._events.append((time.time(), line))


def _next(events: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the next event, or None at the end: a StopIteration does not cross a thread."""
    return next(events, None)
