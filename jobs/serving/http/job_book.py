"""Long predictions as jobs: started by one request, looked up by others."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

from intertitle.jobs.serving.errors import ApiError, defect, full
from intertitle.jobs.serving.http.capacity import Capacity, Claim
from intertitle.jobs.serving.models.predictor import Query
from intertitle.jobs.serving.models.replica import Answers
from intertitle.jobs.serving.models.routing import Backend, Route
from intertitle.jobs.serving.schemas import ErrorBody, JobResult, JobStatus, Result

_log = logging.getLogger(__name__)
# Jobs that may run at a time, inputs that a job sends at a time, and how often it tries to.
_MAX_RUNNING, _CHUNK, _TRIES = 16, 4, 60
# Jobs that are kept, the size of their results as JSON, and the time after their end.
_MAX_JOBS, _MAX_RESULT_BYTES, _MAX_AGE_S = 200, 256 * 2**20, 3600.0


@dataclass
class _Job:
    """A prediction in the background."""

    id: str
    total: int
    state: Literal["running", "finished", "failed"] = "running"
    results: list[JobResult] = field(default_factory=list)
    num_bytes: int = 0
    error: ApiError | None = None
    ended: float = 0.0
    max_frames: int | None = None
    task: asyncio.Task[None] | None = None


class JobBook:
    """Jobs of this process; the newest ones are kept for a time.

    Args:
        capacity: bytes of the inputs that the server holds.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._jobs: dict[str, _Job] = {}

    def start(self, route: Route, queries: list[Query], max_frames: int | None = None) -> JobStatus:
        """Start a job; return its status.

        Args:
            route: model.
            queries: inputs.
            max_frames: maximum number of frames that are kept of each result; None keeps all.

        Raises:
            ApiError: too many jobs run, or their inputs are too large together.
        """
        if sum(job.state == "running" for job in self._jobs.values()) >= _MAX_RUNNING:
            raise full(f"{_MAX_RUNNING} jobs at a time: try again")
        claim = self._capacity.claim(sum(query.num_bytes() for query in queries))
        job = _Job(secrets.token_urlsafe(12), len(queries), max_frames=max_frames)
        self._jobs[job.id] = job
        self._make_room()
        job.task = asyncio.create_task(self._run(job, route, queries, claim))
        return self.status(job.id)

    def status(self, job_id: str) -> JobStatus:
        """Return the progress and the results so far of a job.

        Raises:
            ApiError: there is no such job.
        """
        self._make_room()
        job = self._jobs.get(job_id)
        if job is None:
            raise ApiError(404, "job", job_id, "the id of a job that this server started lately")
        return JobStatus(
            id=job.id,
            state=job.state,
            done=len(job.results),
            total=job.total,
            results=job.results,
            error=ErrorBody(**job.error.body()) if job.error else None,
        )

    async def _run(self, job: _Job, route: Route, queries: list[Query], claim: Claim) -> None:
        try:
            backend = route.choose()
            for at in range(0, len(queries), _CHUNK):
                answers = await _predict_patiently(route, queries[at : at + _CHUNK], backend)
                self._add(job, answers)
            job.state = "finished"
        except ApiError as error:
            job.state, job.error = "failed", error
        except Exception as error:
            _log.exception("a job failed")
            job.state, job.error = "failed", defect(error)
        finally:
            job.ended = time.monotonic()
            claim.release()

    def _add(self, job: _Job, answers: Answers) -> None:
        results = [
            JobResult(**dict(_shorten(result, job.max_frames)), model=answers.model)
            for result in answers.results
        ]
        size = sum(len(result.model_dump_json()) for result in results)
        if not self._make_room(size):
            allowed = f"inputs whose results fit: {_MAX_RESULT_BYTES:,} bytes for all jobs"
            raise ApiError(413, "inputs", f"{job.num_bytes + size:,} bytes of results", allowed)
        job.results += results
        job.num_bytes += size

    def _make_room(self, num_bytes: int = 0) -> bool:
        """Forget jobs that ended long ago, and the oldest ones until the limits hold.

        Args:
            num_bytes: size of results that will be added.

        Returns:
            Whether they fit.
        """
        running = sum(job.num_bytes for job in self._jobs.values() if job.state == "running")
        if running + num_bytes > _MAX_RESULT_BYTES:
            return False
        size = sum(job.num_bytes for job in self._jobs.values()) + num_bytes
        oldest = time.monotonic() - _MAX_AGE_S
        ended = [job for job in self._jobs.values() if job.state != "running"]
        for job in sorted(ended, key=lambda job: job.ended):
            fits = size <= _MAX_RESULT_BYTES and len(self._jobs) <= _MAX_JOBS
            if fits and job.ended > oldest:
                break
            del self._jobs[job.id]
            size -= job.num_bytes
        return True


def _shorten(result: Result, max_frames: int | None) -> Result:
    if max_frames is None or result.frames is None:
        return result
    return result.model_copy(update={"frames": result.frames[:max_frames]})


async def _predict_patiently(route: Route, queries: list[Query], backend: Backend) -> Answers:
    """Answer inputs, waiting while the model is busy.

    Raises:
        ApiError: an input is invalid, or the model stays busy.
    """
    for trial in range(_TRIES):
        try:
            return await route.predict(queries, backend)
        except ApiError as error:
            if error.retry_after_s is None or trial + 1 == _TRIES:
                raise
            await asyncio.sleep(error.retry_after_s)
    raise AssertionError("unreachable")
