"""`intertitle jobs`: what was submitted to a cluster."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobs import console
from jobs.job_server import JobServer, outcome
from jobs.options import Json
from jobs.submit import JobsAddress
from pipeline.errors import JobError, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

app = typer.Typer(help="Jobs of a cluster: list, logs, stop.", no_args_is_help=True)

Job = Annotated[str, typer.Argument(metavar="JOB", help="As `intertitle jobs list` names it.")]
# Ray kills after 30 s what does not stop.
_STOP_TIMEOUT_S = 60.0


@app.command("list")
def list_jobs(address: JobsAddress = None, json: Json = False) -> None:
    """List jobs, the newest first: state, exit code, when it began, how long it took."""
    found = JobServer(address).jobs()
    # Not a table: what it folds can't be copied into the next command.
    width = max((len(job.submission_id) for job in found), default=0)
    for job in found:
        state = job.status.value.lower()
        line = f"{job.submission_id:<{width}}  {state:<9}  {_code(job):>3}  {_began(job)}  "
        console.say(line + _took(job))
    if not found:
        console.say("no jobs")
    if json:
        console.result(
            {
                "jobs": [
                    {
                        "job": job.submission_id,
                        "status": job.status.value,
                        "exit_code": job.driver_exit_code,
                    }
                    for job in found
                ]
            }
        )


@app.command("logs")
def logs(
    job: Job,
    address: JobsAddress = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until it ends.")] = False,
) -> None:
    """Print what a job has said."""
    server = JobServer(address)
    _known(server, job)
    if follow:
        server.follow(job, _write)
    else:
        _write(server.client.get_job_logs(job))


@app.command("stop")
def stop(job: Job, address: JobsAddress = None) -> None:
    """Stop a job, as SIGTERM does: a training keeps a checkpoint first."""
    server = JobServer(address)
    if not _known(server, job).status.is_terminal():
        server.client.stop_job(job)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    with console.ERRORS.status(escape(f"stopping job {job}")):
        while (found := server.find(job)) and not found.status.is_terminal():
            if time.monotonic() > deadline:
                raise JobError(f"job {job}: does not stop")
            time.sleep(0.5)
    console.say(f"job {job}: {outcome(found).status.lower()}")


def _known(server: JobServer, job_id: str) -> JobDetails:
    found = server.find(job_id)
    if found is None:
        newest = ", ".join(job.submission_id for job in server.jobs()[:3]) or "none"
        raise UserError(f"job: {job_id!r} is not known there, the newest are: {newest}")
    return found


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _code(job: JobDetails) -> str:
    code = outcome(job).exit_code if job.status.is_terminal() else None
    return "" if code is None else str(code)


def _began(job: JobDetails) -> str:
    return f"{datetime.fromtimestamp((job.start_time or 0) / 1000):%Y-%m-%d %H:%M:%S}"


def _took(job: JobDetails) -> str:
    ended = job.end_time or time.time() * 1000
    return str(timedelta(seconds=round((ended - (job.start_time or ended)) / 1000)))
