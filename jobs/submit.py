"""`intertitle submit`: a command as a job of a cluster."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from jobs import console
from jobs.job_server import JobServer, Outcome
from jobs.options import Json
from jobs.submission import Submission, describe, send
from pipeline.errors import SIGINT_EXIT_CODE, JobError

JobsAddress = Annotated[
    str | None,
    typer.Option(
        envvar="RAY_API_SERVER_ADDRESS",
        metavar="URL",
        help="Of a job server: http://HOST:8265; default: what `intertitle cluster up` started.",
    ),
]
# What follows the command's name is the command's.
CONTEXT = {"allow_interspersed_args": False}


def submit(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND...", help="intertitle, or any other.")
    ],
    address: JobsAddress = None,
    slot: Annotated[
        str, typer.Option(help="The time it is for, of a schedule: another slot, another job.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it, and end with its exit code.")
    ] = True,
    retries: Annotated[
        int, typer.Option(min=0, help="Attempts after the first, where something killed it.")
    ] = 2,
    json: Json = False,
) -> None:
    """Run a command as a job of a Ray cluster, and end as it ends.

    This project and the recipe's file go along, with MLFLOW_TRACKING_URI, AWS_ENDPOINT_URL and
    AWS_REGION; data and passwords do not: paths must be those of a shared folder or URLs, and
    passwords are in the environment of the cluster's nodes. The same command is the same job: it
    is followed while it runs and told again when it succeeded; when it failed or was stopped it is
    begun again, and goes on from its last checkpoint or shard. Changed code alone makes no other
    job: give it a --slot. The token is in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH
    names, or in ~/.ray/auth_token.
    """
    submission = describe(command, slot)
    server = JobServer(address)
    job_id = _begin(server, submission)
    if not wait:
        if json:
            console.result({"job": job_id, "name": submission.name})
        return
    try:
        ended = _follow(server, job_id)
        while ended.died and retries:
            retries -= 1
            _tell(f"job {job_id}: {_how(ended)}; begun again")
            job_id = _begin(server, submission)
            ended = _follow(server, job_id)
    except KeyboardInterrupt as error:
        _tell(f"job {job_id} goes on; to stop it: intertitle jobs stop {job_id}")
        raise typer.Exit(SIGINT_EXIT_CODE) from error
    if json:
        told = {"name": submission.name, "status": ended.status, "exit_code": ended.exit_code}
        console.result({"job": job_id, **told})
    if ended.exit_code is None:
        raise JobError(f"job {job_id}: {_how(ended)}")
    if ended.exit_code:
        _tell(f"job {job_id}: {_how(ended)}")
    raise typer.Exit(ended.exit_code)


def _begin(server: JobServer, submission: Submission) -> str:
    """Start a job, unless it runs or has succeeded; its last attempt's name."""
    num_attempts, last = server.last_attempt(submission.name)
    if last is not None and last.status not in ("FAILED", "STOPPED"):
        _tell(f"job {last.submission_id}: there already, {last.status.value.lower()}")
        return str(last.submission_id)
    job_id = submission.name if last is None else f"{submission.name}-{num_attempts + 1}"
    try:
        with console.ERRORS.status(f"sending job {job_id}"):
            send(server.client, submission, job_id)
    except RuntimeError as error:
        # Another may have been faster.
        if server.find(job_id) is None:
            line = " ".join(str(error).split())[:300]
            raise JobError(f"job {job_id}: the cluster does not take it: {line}") from error
    _tell(f"job {job_id}: submitted to {server.address}")
    return job_id


def _follow(server: JobServer, job_id: str) -> Outcome:
    with console.ERRORS.status(f"job {job_id} starts") as status:

        def write(text: str) -> None:
            status.stop()
            sys.stdout.write(text)
            sys.stdout.flush()

        return server.follow(job_id, write)


def _how(ended: Outcome) -> str:
    if ended.status == "STOPPED":
        return "stopped"
    if ended.exit_code is None:
        return f"{ended.status.lower()}: {ended.reason}"
    return f"{ended.status.lower()} with exit code {ended.exit_code}"


def _tell(text: str) -> None:
    console.ERRORS.print(text, markup=False, soft_wrap=True)
