"""`intertitle submit`: run a command as a job of a Ray cluster."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.cluster.job_client import JobClient, JobOutcome
from intertitle.jobs.cluster.submission import Submission, describe, send
from intertitle.jobs.options import Json
from intertitle.pipeline.errors import SIGINT_EXIT_CODE, JobError

JobsAddress = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS",
        metavar="URL",
        help="Address of a job server; default: http://127.0.0.1:8265, that of `ray start --head`.",
    ),
]


def submit(
    command: Annotated[
        list[str],
        typer.Argument(metavar="-- COMMAND...", help="Command to run: intertitle or any other."),
    ],
    address: JobsAddress = None,
    slot: Annotated[
        str, typer.Option(help="Time of a schedule's slot; each slot is a separate job.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the job and exit with its exit code.")
    ] = True,
    retries: Annotated[
        int,
        typer.Option(min=0, help="Number of further attempts if the job is killed from outside."),
    ] = 2,
    json: Json = False,
) -> None:
    """Run a command as a job of a Ray cluster, and exit with its exit code.

    The project and the recipe's file are uploaded, and MLFLOW_TRACKING_URI, AWS_ENDPOINT_URL,
    AWS_REGION and INTERTITLE_ALLOW_HOST are passed on. Data and passwords are not sent: paths must
    be URLs or lie in a shared folder, and passwords must be in the environment of the cluster's
    nodes.

    The same command is the same job. A second call follows it while it runs, and prints its
    output again if it succeeded. If it failed or was stopped, it is started again and resumes from
    its last checkpoint or shard. Changed code alone does not make a new job; a new --slot does.

    The cluster's token is read from RAY_AUTH_TOKEN, from the file that RAY_AUTH_TOKEN_PATH names,
    or from ~/.ray/auth_token.
    """
    submission = describe(command, slot)
    server = JobClient(address)
    job_id = _begin(server, submission)
    if not wait:
        if json:
            console.result({"job": job_id, "name": submission.name})
        return
    try:
        job_outcome = _follow(server, job_id)
        while job_outcome.died and retries:
            retries -= 1
            console.note(f"job {job_id}: {_how(job_outcome)}; restarted")
            job_id = _begin(server, submission)
            job_outcome = _follow(server, job_id)
    except KeyboardInterrupt as error:
        console.note(f"job {job_id} goes on; to stop it: intertitle jobs stop {job_id}")
        raise typer.Exit(SIGINT_EXIT_CODE) from error
    if json:
        summary = {
            "name": submission.name,
            "status": job_outcome.status,
            "exit_code": job_outcome.exit_code,
        }
        console.result({"job": job_id, **summary})
    if job_outcome.exit_code is None:
        raise JobError(f"job {job_id}: {_how(job_outcome)}")
    if job_outcome.exit_code:
        console.note(f"job {job_id}: {_how(job_outcome)}")
    raise typer.Exit(job_outcome.exit_code)


def _begin(server: JobClient, submission: Submission) -> str:
    """Start a job unless it is running or has succeeded; return the id of its last attempt."""
    num_attempts, last = server.last_attempt(submission.name)
    if last is not None and last.status not in ("FAILED", "STOPPED"):
        console.note(f"job {last.submission_id}: there already, {last.status.value.lower()}")
        return str(last.submission_id)
    job_id = submission.name if last is None else f"{submission.name}-{num_attempts + 1}"
    try:
        with console.step(f"sending job {job_id}"):
            send(server.client, submission, job_id)
    except RuntimeError as error:
        # The error is expected if another process has started the same job meanwhile.
        if server.find(job_id) is None:
            line = " ".join(str(error).split())[:300]
            raise JobError(f"job {job_id}: the cluster does not take it: {line}") from error
    console.note(f"job {job_id}: submitted to {server.address}")
    return job_id


def _follow(server: JobClient, job_id: str) -> JobOutcome:
    with console.ERRORS.status(f"job {job_id} starts") as status:

        def write(text: str) -> None:
            status.stop()
            sys.stdout.write(text)
            sys.stdout.flush()

        return server.follow(job_id, write)


def _how(ended: JobOutcome) -> str:
    if ended.status == "STOPPED":
        return "stopped"
    if ended.exit_code is None:
        return f"{ended.status.lower()}: {ended.reason}"
    return f"{ended.status.lower()} with exit code {ended.exit_code}"
