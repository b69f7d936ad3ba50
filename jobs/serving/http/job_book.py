"""Long predictions as jobs: started by one request, looked up by others."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Literal

from intertitle.jobs.serving.errors import ApiError, full
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.routing import Route
from intertitle.jobs.serving.schemas import AnsweredBy, ErrorBody, JobStatus, Result

# Jobs that are kept, jobs that may run at a time, and inputs that a job sends at a time.
_MAX_JOBS, _MAX_RUNNING, _CHUNK = 200, 16, 4


@dataclass
class _Job:
    """A prediction in the background."""

    id: str
    total: int
    state: Literal["running", "finished", "failed"] = "running"
    model: AnsweredBy | None = None
    results: list[Result] = field(default_factory=list)
    error: ApiError | None = None
    max_frames: int | None = None
    task: asyncio.Task[None] | None = None


class JobBook:
    """Jobs of this process; the newest ones are kept until it ends."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    def start(self, route: Route, queries: list[Query], max_frames: int | None = None) -> JobStatus:
        """Start a job; return its status.

        Args:
            route: model.
            queries: inputs.
            max_frames: maximum number of frames that are kept of each result; None keeps all.

        Raises:
            ApiError: too many jobs run.
        """
        if sum(job.state == "running" for job in self._jobs.values()) >= _MAX_RUNNING:
            raise full(f"{_MAX_RUNNING} jobs at a time: try again")
        while len(self._jobs) >= _MAX_JOBS:
            oldest = next(key for key, job in self._jobs.items() if job.state != "running")
            del self._jobs[oldest]
        job = _Job(secrets.token_urlsafe(12), len(queries), max_frames=max_frames)
        self._jobs[job.id] = job
        job.task = asyncio.create_task(self._run(job, route, queries))
        return self.status(job.id)

    def status(self, job_id: str) -> JobStatus:
        """Return the progress and the results so far of a job.

        Raises:
            ApiError: there is no such job.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise ApiError(404, "job", job_id, "the id of a job that this server started")
        return JobStatus(
            id=job.id,
            state=job.state,
            done=len(job.results),
            total=job.total,
            model=job.model,
            results=job.results,
            error=ErrorBody(**job.error.body()) if job.error else None,
        )

    async def _run(self, job: _Job, route: Route, queries: list[Query]) -> None:
        try:
            for at in range(0, len(queries), _CHUNK):
                answers = await route.predict(queries[at : at + _CHUNK])
                job.model = answers.model
                job.results += [_shorten(result, job.max_frames) for result in answers.results]
            job.state = "finished"
        except ApiError as error:
            job.state, job.error = "failed", error
        finally:
            if job.state == "running":
                defect = ApiError(500, "server", "", "a report of this defect")
                job.state, job.error = "failed", defect


def _shorten(result: Result, max_frames: int | None) -> Result:
    if max_frames is None or result.frames is None:
        return result
    return result.model_copy(update={"frames": result.frames[:max_frames]})
