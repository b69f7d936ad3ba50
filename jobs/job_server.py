"""A cluster's job server: which jobs there are, what they say, how they ended."""

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

from jobs.cluster import check_token, refusal
from jobs.local_cluster import clusters
from pipeline.errors import SIGTERM_EXIT_CODE, JobError, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

# A server that does not answer for so long is given up; the job may go on.
PATIENCE_S = 300.0
# A job that says nothing for so long may have ended behind a cut wire.
_SILENCE_S = 60.0
# What a shell says of a process that a signal ended: this and the signal's number.
_SIGNALLED, _LAST_SIGNAL = 128, 64
# They tell of every package and every connection.
_TALKATIVE = (
    "_private.runtime_env.packaging",
    "dashboard.modules.dashboard_sdk",
    "dashboard.modules.job.sdk",
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: SUCCEEDED, FAILED, STOPPED; LOST where the cluster knows nothing of it any more.
        exit_code: of its command, as a shell tells it; None where it never came to one.
        reason: in one line, where there is no exit code.
    """

    status: str
    exit_code: int | None
    reason: str = ""

    @property
    def died(self) -> bool:
        """Whether something ended it from outside, and it is worth another attempt."""
        if self.status in ("SUCCEEDED", "STOPPED"):
            return False
        code = self.exit_code
        return code is None or code == SIGTERM_EXIT_CODE or code > _SIGNALLED


class JobServer:
    """What speaks to the job server of a cluster.

    Attributes:
        client: Ray's own.
        address: of it.
    """

    def __init__(self, address: str | None) -> None:
        """Connect.

        Args:
            address: "http://host:port" or "host:port"; None takes RAY_API_SERVER_ADDRESS, else
                the cluster that `intertitle cluster up` started.

        Raises:
            UserError: nothing answers there, or it asks for another token.
        """
        check_token()
        self.address = _find_address(address)
        # What Ray would prefer to what it is told.
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address
        import requests
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for talkative in _TALKATIVE:
            logging.getLogger(f"ray.{talkative}").setLevel(logging.WARNING)
        try:
            self.client: JobSubmissionClient = JobSubmissionClient(self.address)
        except AuthenticationError as error:
            raise refusal(self.address) from error
        except (ConnectionError, RuntimeError, ValueError, requests.RequestException) as error:
            raise UserError(f"address: {self.address!r}: no job server answers there") from error

    def jobs(self) -> list[JobDetails]:
        """All that were submitted, the newest first."""
        found = [job for job in self.client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0, reverse=True)

    def find(self, job_id: str) -> JobDetails | None:
        """A job by Ray's name of it, if there is one."""
        return next((job for job in self.jobs() if job.submission_id == job_id), None)

    def last_attempt(self, name: str) -> tuple[int, JobDetails | None]:
        """The number of attempts there were at a job, and the last of them."""
        attempts = {}
        for job in self.jobs():
            if match := re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", job.submission_id):
                attempts[int(match[1] or 1)] = job
        return max(attempts, default=0), attempts[max(attempts)] if attempts else None

    def follow(self, job_id: str, write: Callable[[str], object]) -> Outcome:
        """Pass on what a job says until it ends: each character once, whatever becomes of the wire.

        Raises:
            JobError: the server does not answer any more.
        """
        import aiohttp
        import requests

        log = _Log(write)
        answered = time.monotonic()
        while True:
            try:
                asyncio.run(self._tail(job_id, log))
                job = self.find(job_id)
                answered = time.monotonic()
                if job is None or job.status.is_terminal():
                    return outcome(job)
            except (aiohttp.ClientError, requests.RequestException, RuntimeError, OSError) as error:
                # Ray raises RuntimeError for whatever a server that is starting answers.
                if time.monotonic() > answered + PATIENCE_S:
                    raise JobError(
                        f"address: {self.address!r}: does not answer any more; job {job_id} may go "
                        "on, and the same command follows it again"
                    ) from error
            time.sleep(1)

    async def _tail(self, job_id: str, log: _Log) -> None:
        log.rewind()
        async with aclosing(self.client.tail_job_logs(job_id)) as chunks:
            coming = asyncio.ensure_future(anext(chunks, None))
            try:
                while True:
                    if not (await asyncio.wait({coming}, timeout=_SILENCE_S))[0]:
                        job = await asyncio.to_thread(self.find, job_id)
                        if job is None or job.status.is_terminal():
                            return
                        continue
                    if (chunk := coming.result()) is None:
                        return
                    log.add(chunk)
                    coming = asyncio.ensure_future(anext(chunks, None))
            finally:
                coming.cancel()
                await asyncio.wait({coming})


class _Log:
    """Passes a text on, of which each connection tells the whole again."""

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


def outcome(job: JobDetails | None) -> Outcome:
    """How a job ended that has ended, or that the cluster does not know."""
    if job is None:
        return Outcome("LOST", None, "the cluster does not know it any more")
    code = job.driver_exit_code
    if code is not None and code < 0:
        code = _SIGNALLED - code
    if job.status == "STOPPED":
        code = _SIGNALLED + 15
    reason = "" if code is not None else " ".join((job.message or "").split())[:300]
    return Outcome(str(job.status.value), code, reason)


def _find_address(address: str | None) -> str:
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS")
    if address is None:
        here = clusters()
        if len(here) != 1:
            which = ", ".join(each.job_server for each in here) or "`intertitle cluster up` first"
            raise UserError(f"--address: none, allowed: that of a job server: {which}")
        return here[0].job_server
    if "://" not in address:
        address = f"http://{address}"
    if not address.startswith(("http://", "https://")):
        raise UserError(f"--address: {address!r}, allowed: http://HOST:PORT of a job server")
    return address.rstrip("/")
