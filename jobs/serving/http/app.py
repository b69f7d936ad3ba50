"""HTTP interface of the server."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from intertitle.jobs.serving.config import ServerConfig
from intertitle.jobs.serving.errors import ApiError, defect, from_validation
from intertitle.jobs.serving.http.capacity import Capacity, Claim
from intertitle.jobs.serving.http.fetch import Fetcher
from intertitle.jobs.serving.http.guard import Guard, error_response
from intertitle.jobs.serving.http.job_book import JobBook
from intertitle.jobs.serving.http.metrics import Metrics
from intertitle.jobs.serving.http.page_gate import PageGate
from intertitle.jobs.serving.http.parsing import BODY, Fetch, read_file, read_queries
from intertitle.jobs.serving.http.readiness import Readiness
from intertitle.jobs.serving.http.uploads import Uploads
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.routing import Route
from intertitle.jobs.serving.records.records import Records
from intertitle.jobs.serving.schemas import (
    ErrorBody,
    Feedback,
    FeedbackCount,
    JobStatus,
    ModelDetails,
    ModelSummary,
    PredictRequest,
    PredictResponse,
)

_log = logging.getLogger(__name__)
# Maximum number of calls of models by the page at a time.
_PAGE_CALLS = 16
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (401, 404, 413, 422, 503)
}


def create_app(
    config: ServerConfig,
    routes: Mapping[str, Route],
    records: Records,
) -> FastAPI:
    """Create the application.

    Args:
        config: settings of the server.
        routes: models by name.
        records: records of the server, which are closed when it stops.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(records.close)

    # Its page at /docs needs no files from other servers.
    app = FastAPIOffline(
        title="Intertitle",
        description="Text from videos, photographs and sentences.",
        version="1",
        redoc_url=None,
        lifespan=lifespan,
    )
    limits, metrics = config.limits, Metrics()
    capacity = Capacity(limits.pending_bytes)
    job_book, readiness = JobBook(capacity), Readiness(routes)
    _handle_errors(app)
    app.add_middleware(Guard, config=config, capacity=capacity)
    # Added last, so that it sees what the guard refuses.
    app.add_middleware(metrics.middleware)

    def find(name: str) -> Route:
        route = routes.get(name)
        if route is None:
            raise ApiError(404, "model", name, ", ".join(routes))
        return route

    def fetch_for(request: Request) -> Fetch:
        claim: Claim = request.state.claim
        fetcher = Fetcher(config.allowed_hosts, limits.body_bytes, limits.fetch_seconds, claim)
        return fetcher.fetch

    async def read(request: Request) -> list[Query]:
        return await read_queries(request, fetch_for(request), limits.hypotheses)

    @app.get("/healthz", tags=["server"])
    async def is_alive() -> dict[str, str]:
        """Return 200 while the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"], responses={503: {"model": ErrorBody}})
    async def is_ready() -> dict[str, str]:
        """Return 200 if every model can answer."""
        missing = await readiness.missing_model()
        if missing is not None:
            raise ApiError(503, "model", missing, "wait until it is loaded", retry_after_s=1)
        return {"status": "ready"}

    @app.get("/metrics", tags=["server"])
    async def measure() -> Response:
        """Return the metrics of the server in the format of Prometheus."""
        return Response(metrics.text(), media_type=metrics.content_type)

    @app.get("/v1/models", tags=["models"])
    async def list_models() -> list[ModelSummary]:
        """List the models that answer."""
        # FastAPI leaves out what a summary does not have.
        return [await describe(name) for name in routes]

    @app.get("/v1/models/{name}", tags=["models"], responses=_ERRORS)
    async def describe(name: str) -> ModelDetails:
        """Describe a model: its task, vocabulary, scores with intervals, and signature."""
        details = await find(name).main.details()
        assert details is not None, "the model itself is never missing"
        return details

    @app.post("/v1/models/{name}/predict", tags=["models"], openapi_extra=BODY, responses=_ERRORS)
    async def predict(name: str, request: Request) -> PredictResponse:
        """Answer inputs: files, texts, or files with questions.

        An input that cannot be read has an `error` in place of its answer; if that holds for all,
        the response is the first error.
        """
        route, start = find(name), time.perf_counter()
        queries = await read(request)
        answers = await route.predict(queries)
        metrics.answered(name, len(queries), time.perf_counter() - start)
        errors = [result.error for result in answers.results]
        if errors[0] is not None and all(errors):
            raise ApiError(errors[0].status, **errors[0].model_dump())
        return PredictResponse(model=answers.model, results=answers.results)

    @app.post("/v1/models/{name}/stream", tags=["models"], openapi_extra=BODY, responses=_ERRORS)
    async def stream(name: str, request: Request) -> StreamingResponse:
        """Answer one input, as server-sent events: each token as it comes, then the result.

        The search is greedy, or sampling; the events are `token`, `result` and `error`.
        """
        route = find(name)
        queries = await read(request)
        if len(queries) > 1:
            raise ApiError(422, "inputs", str(len(queries)), "1 for a stream")
        events = route.stream(queries[0])
        # The first event decides about the status.
        first = await anext(events)
        if "error" in first:
            raise ApiError(first["status"], **first["error"])
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            _server_sent(first, events), media_type="text/event-stream", headers=headers
        )

    @app.post(
        "/v1/models/{name}/feedback",
        tags=["models"],
        responses=_ERRORS | {507: {"model": ErrorBody}},
    )
    async def judge(name: str, body: Feedback, request: Request) -> FeedbackCount:
        """Keep a judgement of an answer as an example of the model's corpus of feedback."""
        find(name)
        if name not in records.feedback:
            raise ApiError(404, "feedback", "", "a server that was started with --feedback")
        details = await describe(name)
        file = await read_file(body, "", fetch_for(request))
        num = await asyncio.to_thread(records.feedback[name].add, details, body, file)
        return FeedbackCount(examples=num)

    @app.post(
        "/v1/jobs",
        tags=["jobs"],
        openapi_extra=BODY,
        responses=_ERRORS,
        status_code=202,
    )
    async def start_job(model: str, request: Request) -> JobStatus:
        """Start a prediction in the background, such as that of long videos."""
        route = find(model)
        return job_book.start(route, await read(request))

    @app.get("/v1/jobs/{job}", tags=["jobs"], responses={404: {"model": ErrorBody}})
    async def look_up_job(job: str) -> JobStatus:
        """Return the progress of a job, and its results so far."""
        return job_book.status(job)

    _add_schema(app)
    if config.page:
        _mount_page(app, config, routes, records, job_book)
    return app


def _mount_page(
    app: FastAPI,
    config: ServerConfig,
    routes: Mapping[str, Route],
    records: Records,
    job_book: JobBook,
) -> None:
    """Add the page; Gradio takes seconds to import, and only the page needs it."""
    uploads = Uploads()
    from intertitle.jobs.serving.page.build import mount_page
    from intertitle.jobs.serving.page.desk import Desk
    from intertitle.jobs.serving.page.inputs import example_files

    examples = example_files(Path(config.examples)) if config.examples else ()
    has_token = config.token_sha256 is not None
    limits = config.limits
    # Each call may hold a file in memory, as each request may.
    calls = max(1, min(_PAGE_CALLS, limits.requests, limits.pending_bytes // limits.body_bytes))
    desk = Desk(routes, records, job_book, uploads, limits.body_bytes, calls, has_token, examples)
    mount_page(app, desk).add_middleware(PageGate, uploads=uploads)


async def _server_sent(
    first: dict[str, Any], events: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[str]:
    """Yield the lines of server-sent events."""
    yield _event(first)
    try:
        async for event in events:
            yield _event(event)
    except ApiError as error:
        yield _event({"error": error.body()})
    finally:
        with suppress(Exception):
            await events.aclose()  # type: ignore[attr-defined]


def _event(event: dict[str, Any]) -> str:
    kind = next((name for name in ("result", "error") if name in event), "token")
    return f"event: {kind}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"


def _handle_errors(app: FastAPI) -> None:
    """Give all errors one shape."""

    @app.exception_handler(ApiError)
    async def on_api_error(_: Request, error: ApiError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(from_validation(dict(error.errors()[0])))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, ApiError):
            # FastAPI reports what a body raises while it is read as a body that cannot be parsed.
            return error_response(error.__cause__)
        field = {404: "path", 405: "method"}.get(error.status_code, "body")
        value = {404: request.url.path, 405: request.method}.get(error.status_code, "")
        return error_response(ApiError(error.status_code, field, value, str(error.detail)))

    @app.exception_handler(Exception)
    async def on_defect(_: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed", exc_info=error)
        return error_response(defect(error))


def _add_schema(app: FastAPI) -> None:
    """Describe the JSON body, which the application reads itself, in the OpenAPI document."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        schema = original()
        body = PredictRequest.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] |= body.pop("$defs", {})
        schema["components"]["schemas"]["PredictRequest"] = jsonable_encoder(body)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
