"""Calls that the tabs of the page make."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from intertitle.jobs.serving.errors import ApiError, from_validation
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.routing import Route
from intertitle.jobs.serving.records.records import Records
from intertitle.jobs.serving.schemas import AnsweredBy, Input, ModelDetails, Options, Result

if TYPE_CHECKING:
    from intertitle.jobs.serving.http.job_book import JobBook
    from intertitle.jobs.serving.http.uploads import Uploads

# Group of the handlers that call models: they share one limit.
CALLS = "calls"
# Seconds for which the page keeps an answer that may be judged.
STATE_S = 3600
# Models by what they use, as the page names it.
_USES = {
    "both": "Question and picture",
    "question": "Question alone",
    "image": "Picture alone",
}
# Time that a model has to describe itself when the page is opened.
_DESCRIBE_S = 5.0


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

    def brief(self) -> Answered:
        """Return what a judgement needs: it has no frames, maps and candidates."""
        return replace(self, result=Result(input=self.result.input, text=self.result.text))


@dataclass(frozen=True, slots=True)
class Desk:
    """Models and records of the server, as the page uses them.

    Attributes:
        routes: models by name.
        records: votes and feedback.
        jobs: predictions in the background.
        uploads: folder of uploads.
        body_bytes: maximum size of a file.
        calls: maximum number of calls of models at a time.
        has_token: whether calls of the server need a token.
        examples: pictures and videos that the page offers.
    """

    routes: Mapping[str, Route]
    records: Records
    jobs: JobBook
    uploads: Uploads
    body_bytes: int
    calls: int
    has_token: bool = False
    examples: Sequence[Path] = ()

    async def models(self) -> tuple[dict[str, ModelDetails], list[ApiError]]:
        """Describe the models that answer now, by name; return the errors of the others too."""
        described = await asyncio.gather(
            *(asyncio.wait_for(self.details(name), _DESCRIBE_S) for name in self.routes),
            return_exceptions=True,
        )
        models: dict[str, ModelDetails] = {}
        errors = []
        for name, item in zip(self.routes, described, strict=True):
            if isinstance(item, ModelDetails):
                models[name] = item
            else:
                errors.append(ApiError(503, "model", name, "one that answers; load the page again"))
        return models, errors

    async def details(self, name: str | None) -> ModelDetails:
        """Describe a model.

        Raises:
            ApiError: there is none of that name.
        """
        details = await self.route(name).main.details()
        assert details is not None, "the model itself is never missing"
        return details

    async def challenger(self, name: str) -> ModelDetails | None:
        """Describe the canary of a model; None if there is none."""
        canary = self.route(name).canary
        return await canary.details() if canary else None

    async def variants(self, name: str | None) -> dict[str, str]:
        """Find the models that differ from a model in the inputs that they use.

        They have its recipe, corpus and vocabularies.

        Returns:
            The names of the models, the model itself among them, by what they use; empty if there
            are no others.
        """
        models, _ = await self.models()
        model = models.get(str(name))
        if model is None or model.uses is None:
            return {}
        alike = [item for item in models.values() if _origin(item) == _origin(model)]
        # Of models that use the same, the chosen one counts, or the first one.
        used = {item.uses: item.name for item in [*reversed(alike), model]}
        choices = {label: used[uses] for uses, label in _USES.items() if uses in used}
        return choices if len(choices) > 1 else {}

    async def answer(
        self, name: str, query: Query, file: str | None = None, *, challenger: bool = False
    ) -> Answered | None:
        """Answer an input; None if the challenger is wanted and there is none.

        Args:
            name: name of the model.
            query: the input.
            file: path of its file.
            challenger: whether the canary answers.

        Raises:
            ApiError: the input is invalid.
        """
        route = self.route(name)
        backend = route.canary if challenger else route.main
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

    async def query(self, file: str | None, text: str | None, **options: Any) -> Query:
        """Build an input.

        Args:
            file: path of an uploaded file; None if there is none.
            text: text of the input; None if there is none.
            options: options of the request.

        Raises:
            ApiError: the text or an option is not allowed, or the file is too large or no longer
                there.
        """
        name = Path(file).name if file else ""
        check_input(text, name)
        try:
            chosen = Options.model_validate(options)
        except ValidationError as error:
            raise from_validation(dict(error.errors()[0])) from error
        data = await asyncio.to_thread(self.read, file) if file else None
        return Query(name, text, data, 0, chosen)

    def read(self, file: str) -> bytes:
        """Read an uploaded file; blocks.

        Raises:
            ApiError: the file is too large or no longer there.
        """
        with self.uploaded(file).open("rb") as opened:
            data = opened.read(self.body_bytes + 1)
        if len(data) > self.body_bytes:
            raise ApiError(413, "file", Path(file).name, f"at most {self.body_bytes:,} bytes")
        return data

    def uploaded(self, file: str) -> Path:
        """Return the path of an uploaded file.

        Raises:
            ApiError: it is no longer there, or the caller has named another file.
        """
        path = Path(file)
        with suppress(OSError, ValueError):
            if self.uploads.has(file) and path.is_file():
                return path
        raise ApiError(422, "file", path.name, "a file that was just uploaded")


def _origin(model: ModelDetails) -> tuple[object, ...]:
    return model.recipe, model.corpus, model.vocabulary, model.source_vocabulary


def check_input(text: str | None, name: str) -> None:
    """Check the text and the name of a file of an input, as the API does.

    Raises:
        ApiError: one of them is too long.
    """
    try:
        Input(text=text, name=name)
    except ValidationError as error:
        raise from_validation(dict(error.errors()[0])) from error


def with_options(query: Query, **options: Any) -> Query:
    """Return an input with other options, which are valid."""
    return replace(query, options=query.options.model_copy(update=options))


def message(error: ApiError) -> str:
    """Return an error as one line."""
    value = f"{error.value}, " if error.value else ""
    return f"{error.field}: {value}allowed: {error.allowed}"
