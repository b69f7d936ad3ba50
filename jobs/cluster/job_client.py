"""Client of a cluster's job server: list jobs, follow their output, read their outcome."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from intertitle.jobs.cluster.session import JOB_SERVER_PORT, check_token, refusal
from intertitle.pipeline.errors import SIGTERM_EXIT_CODE, JobError, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

# Time without an answer after which a server is given up; the job may continue.
PATIENCE_S = 300.0
# Time without output after which the job's status is read: it may have ended while the connection
# was lost.
_SILENCE_S = 60.0
# Exit code of a process that a signal ended, as in a shell: this plus the signal's number.
_SIGNALLED, _LAST_SIGNAL = 128, 64


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """Outcome of a job.

    Attributes:
        status: "SUCCEEDED", "FAILED" or "STOPPED"; "LOST" if the cluster no longer knows the job.
        exit_code: exit code of the command, as a shell returns it; None if there is none.
        reason: reason in one line if there is no exit code, else empty.
    """

    status: str
    exit_code: int | None
    reason: str = ""

    @property
    def died(self) -> bool:
        """Whether the job was killed from outside, so that another attempt makes sense."""
        if self.status in ("SUCCEEDED", "STOPPED"):
            return False
        code = self.exit_code
        return code is None or code == SIGTERM_EXIT_CODE or code > _SIGNALLED


class JobClient:
    """Client of the job server of a Ray cluster.

    Attributes:
        client: Ray's client.
        address: URL of the job server.
    """

    def __init__(self, address: str | None) -> None:
        """Connect to a job server.

        Args:
            address: "http://host:port" or "host:port"; None uses RAY_API_SERVER_ADDRESS, or else
                the default port of this machine.

        Raises:
            UserError: no job server answers at the address, or it requires another token.
        """
        check_token()
        self.address = _find_address(address)
        # Ray prefers this variable to the address that it is given.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        import requests
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        # The modules of Ray's client set the level of their loggers to INFO.
        for logger_name in ("ray", *(base.__module__ for base in JobSubmissionClient.__mro__)):
            logging.getLogger(logger_name).setLevel(logging.WARNING)
        try:
            self.client: JobSubmissionClient = JobSubmissionClient(self.address)
        except AuthenticationError as error:
            raise refusal(self.address) from error
        except (ConnectionError, RuntimeError, ValueError, requests.RequestException) as error:
            raise UserError(
                f"address: {self.address!r}: no job server answers there, allowed: that of a Ray "
                "cluster, such as `ray start --head` starts"
            ) from error

    def jobs(self) -> list[JobDetails]:
        """Return all submitted jobs, newest first."""
        submitted = [job for job in self.client.list_jobs() if job.submission_id]
        return sorted(submitted, key=lambda job: job.start_time or 0, reverse=True)

    def find(self, job_id: str) -> JobDetails | None:
        """Return the job with an id, or None."""
        return next((job for job in self.jobs() if job.submission_id == job_id), None)

    def last_attempt(self, name: str) -> tuple[int, JobDetails | None]:
        """Return the number of attempts at a job, and the last attempt."""
        attempts = {}
        for job in self.jobs():
            if match := re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", job.submission_id):
                attempts[int(match[1] or 1)] = job
        return max(attempts, default=0), attempts[max(attempts)] if attempts else None

    def follow(self, job_id: str, write: Callable[[str], object]) -> JobOutcome:
        """Write the output of a job until it ends, without gaps or repeats after lost connections.

        Args:
            job_id: id of the job.
            write: callback with the next part of the output.

        Raises:
            JobError: the server no longer answers.
        """
        import aiohttp
        import requests

        log = _Log(write)
        last_answer = time.monotonic()
        while True:
            try:
                asyncio.run(self._tail(job_id, log))
                job = self.find(job_id)
                last_answer = time.monotonic()
                if job is None or job.status.is_terminal():
                    return job_outcome(job)
            except (aiohttp.ClientError, requests.RequestException, RuntimeError, OSError) as error:
                # Ray raises RuntimeError for any answer of a server that is starting.
                if time.monotonic() > last_answer + PATIENCE_S:
                    raise JobError(
                        f"address: {self.address!r}: does not answer any more; job {job_id} may go "
                        "on, and the same command follows it again"
                    ) from error
            time.sleep(1)

    async def _tail(self, job_id: str, log: _Log) -> None:
        log.rewind()
        async with aclosing(self.client.tail_job_logs(job_id)) as chunks:
            next_chunk = asyncio.ensure_future(anext(chunks, None))
            try:
                while True:
                    if not (await asyncio.wait({next_chunk}, timeout=_SILENCE_S))[0]:
                        job = await asyncio.to_thread(self.find, job_id)
                        if job is None or job.status.is_terminal():
                            return
                        continue
                    if (chunk := next_chunk.result()) is None:
                        return
                    log.add(chunk)
                    next_chunk = asyncio.ensure_future(anext(chunks, None))
            finally:
                next_chunk.cancel()
                await asyncio.wait({next_chunk})


class _Log:
    """Passes on a text once, although each connection receives it from the beginning."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write, self._at, self._passed_on = write, 0, 0

    def rewind(self) -> None:
        self._at = 0

    def add(self, chunk: str) -> None:
        new = chunk[max(0, self._passed_on - self._at) :]
        self._at += len(chunk)
        if new:
            self._passed_on = self._at
            self._write(new)


def job_outcome(job: JobDetails | None) -> JobOutcome:
    """Return the outcome of a job that has ended; None is a job that the cluster does not know."""
    if job is None:
        return JobOutcome("LOST", None, "the cluster does not know it any more")
    code = job.driver_exit_code
    if code is not None and code < 0:
        code = _SIGNALLED - code
    if job.status == "STOPPED":
        code = _SIGNALLED + 15
    reason = "" if code is not None else " ".join((job.message or "").split())[:300]
    return JobOutcome(str(job.status.value), code, reason)


def _find_address(address: str | None) -> str:
    address = (
        address or os.environ.get("RAY_API_SERVER_ADDRESS") or f"http://127.0.0.1:{JOB_SERVER_PORT}"
    )
    if "://" not in address:
        address = f"http://{address}"
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address: {address!r}, allowed: http://HOST:PORT of a job server")
    return address.rstrip("/")
