"""Calls that the tabs of the page make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from intertitle.jobs.serving.errors import ApiError, from_validation
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.routing import Route
from intertitle.jobs.serving.records.records import Records
from intertitle.jobs.serving.schemas import AnsweredBy, ModelDetails, Options, Result

if TYPE_CHECKING:
    from intertitle.jobs.serving.http.job_book import JobBook


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and the input that it is of.

    Attributes:
        name: name of the model in URLs.
        model: model that answered.
        result: answer.
        file: path of the uploaded file; None if there is none.
        text: text of the input; None if there is none.
    """

    name: str
    model: AnsweredBy
    result: Result
    file: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class Desk:
    """Models and records of the server, as the page uses them.

    Attributes:
        routes: models by name.
        records: votes and feedback.
        jobs: predictions in the background.
        body_bytes: maximum size of a file.
        has_token: whether calls of the server need a token.
        examples: pictures and videos that the page offers.
    """

    routes: Mapping[str, Route]
    records: Records
    jobs: JobBook
    body_bytes: int
    has_token: bool = False
    examples: Sequence[Path] = ()

    async def models(self) -> dict[str, ModelDetails]:
        """Describe the models that answer now, by name."""
        described = await asyncio.gather(*(route.main.details() for route in self.routes.values()))
        return {name: item for name, item in zip(self.routes, described, strict=True) if item}

    async def details(self, name: str | None) -> ModelDetails:
        """Describe a model.

        Raises:
            ApiError: there is none of that name.
        """
        details = await self.route(name).main.details()
        assert details is not None, "the model itself is never missing"
        return details

    async def answer(
        self, name: str, query: Query, file: str | None = None, *, challenger: bool = False
    ) -> Answered | None:
        """Answer an input; None if the challenger is wanted and there is none.

        Args:
            name: name of the model.
            query: the input.
            file: path of its file.
            challenger: whether the canary or the shadow answers.

        Raises:
            ApiError: the input is invalid.
        """
        route = self.route(name)
        backend = (route.canary or route.shadow) if challenger else route.main
        answers = await backend.predict([query]) if backend else None
        if answers is None:
            return None
        (result,) = answers.results
        if result.error is not None:
            raise ApiError(422, **result.error.model_dump())
        return Answered(name, answers.model, result, file, query.text)

    async def stream(self, name: str, query: Query) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of an input.

        Raises:
            ApiError: the input is invalid.
        """
        async for event in self.route(name).main.stream(query):
            if "error" in event:
                raise ApiError(event["status"], **event["error"])
            yield event

    def route(self, name: str | None) -> Route:
        """Return a model.

        Raises:
            ApiError: there is none of that name.
        """
        if name not in self.routes:
            raise ApiError(404, "model", str(name or ""), ", ".join(self.routes))
        return self.routes[str(name)]

    def query(self, file: str | None, text: str | None, **options: Any) -> Query:
        """Build an input.

        Args:
            file: path of an uploaded file; None if there is none.
            text: text of the input; None if there is none.
            options: options of the request.

        Raises:
            ApiError: an option is not allowed, or the file is too large or no longer there.
        """
        try:
            chosen = Options.model_validate(options)
        except ValidationError as error:
            raise from_validation(dict(error.errors()[0])) from error
        name = Path(file).name if file else ""
        return Query(name, text, self.read(file) if file else None, 0, chosen)

    def read(self, file: str) -> bytes:
        """Read an uploaded file.

        Raises:
            ApiError: the file is too large or no longer there.
        """
        try:
            with Path(file).open("rb") as opened:
                data = opened.read(self.body_bytes + 1)
        except FileNotFoundError as error:
            raise ApiError(422, "file", Path(file).name, "a file that was just uploaded") from error
        if len(data) > self.body_bytes:
            raise ApiError(413, "file", Path(file).name, f"at most {self.body_bytes:,} bytes")
        return data


def with_options(query: Query, **options: Any) -> Query:
    """Return an input with other options, which are valid."""
    return replace(query, options=query.options.model_copy(update=options))


def message(error: ApiError) -> str:
    """Return an error as one line."""
    value = f"{error.value}, " if error.value else ""
    return f"{error.field}: {value}allowed: {error.allowed}"
