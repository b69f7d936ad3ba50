"""`intertitle jobs`: list, follow and stop the jobs submitted to a cluster."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.cluster.job_client import JobClient, job_outcome
from intertitle.jobs.commands.submit import JobsAddress
from intertitle.jobs.options import Json
from intertitle.pipeline.errors import JobError, UserError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

app = typer.Typer(
    help="List the jobs of a cluster, print their logs, and stop them.", no_args_is_help=True
)

Job = Annotated[
    str, typer.Argument(metavar="JOB", help="Job id, as printed by `intertitle jobs list`.")
]
# Longer than the 30 s after which Ray kills a job that does not stop.
_STOP_TIMEOUT_S = 60.0


@app.command("list")
def list_jobs(address: JobsAddress = None, json: Json = False) -> None:
    """List jobs, newest first, with state, exit code, start time and duration."""
    submitted = JobClient(address).jobs()
    # Not a table: it would wrap long job ids, which then can't be copied into another command.
    width = max((len(job.submission_id) for job in submitted), default=0)
    for job in submitted:
        state = job.status.value.lower()
        line = f"{job.submission_id:<{width}}  {state:<9}  {_code(job):>3}  {_began(job)}  "
        console.echo(line + _took(job))
    if not submitted:
        console.echo("no jobs")
    if json:
        console.result(
            {
                "jobs": [
                    {
                        "job": job.submission_id,
                        "status": job.status.value,
                        "exit_code": job.driver_exit_code,
                    }
                    for job in submitted
                ]
            }
        )


@app.command("logs")
def logs(
    job: Job,
    address: JobsAddress = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Print new output until the job ends.")
    ] = False,
) -> None:
    """Print the output of a job."""
    server = JobClient(address)
    _known(server, job)
    if follow:
        server.follow(job, _write)
    else:
        _write(server.client.get_job_logs(job))


@app.command("stop")
def stop(job: Job, address: JobsAddress = None) -> None:
    """Stop a job with SIGTERM; a training job saves a checkpoint first."""
    server = JobClient(address)
    if not _known(server, job).status.is_terminal():
        server.client.stop_job(job)
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    with console.step(f"stopping job {job}"):
        while (details := server.find(job)) and not details.status.is_terminal():
            if time.monotonic() > deadline:
                raise JobError(f"job {job}: does not stop")
            time.sleep(0.5)
    console.echo(f"job {job}: {job_outcome(details).status.lower()}")


def _known(server: JobClient, job_id: str) -> JobDetails:
    details = server.find(job_id)
    if details is None:
        newest = ", ".join(job.submission_id for job in server.jobs()[:3]) or "none"
        raise UserError(f"job: {job_id!r} is not known there, the newest are: {newest}")
    return details


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _code(job: JobDetails) -> str:
    code = job_outcome(job).exit_code if job.status.is_terminal() else None
    return "" if code is None else str(code)


def _began(job: JobDetails) -> str:
    return f"{datetime.fromtimestamp((job.start_time or 0) / 1000):%Y-%m-%d %H:%M:%S}"


def _took(job: JobDetails) -> str:
    end_ms = job.end_time or time.time() * 1000
    return str(timedelta(seconds=round((end_ms - (job.start_time or end_ms)) / 1000)))
