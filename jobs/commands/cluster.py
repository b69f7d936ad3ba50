"""`intertitle cluster`: start, stop and list Ray clusters on this machine."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from intertitle.jobs import console
from intertitle.jobs.cluster.local import LocalCluster, clusters, start, stop
from intertitle.jobs.cluster.loopback_node import LOOPBACK_HOST
from intertitle.jobs.cluster.session import HEAD_PORT, JOB_SERVER_PORT
from intertitle.jobs.options import Json
from intertitle.pipeline.errors import UserError

app = typer.Typer(help="Start, stop and list Ray clusters on this machine.", no_args_is_help=True)


@app.command("up")
def up(
    workers: Annotated[
        int, typer.Option(min=0, help="Number of worker nodes besides the head.")
    ] = 1,
    cpus_per_node: Annotated[
        int | None,
        typer.Option(
            min=1, help="CPUs per node; default: this machine's cores divided by its nodes."
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=1024, max=65535, help="Port of the head node.")
    ] = HEAD_PORT,
    dashboard_port: Annotated[
        int, typer.Option(min=1024, max=65535, help="Port of the job server and Ray's dashboard.")
    ] = JOB_SERVER_PORT,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address of this machine on which the nodes listen."),
    ] = LOOPBACK_HOST,
    json: Json = False,
) -> None:
    """Start a Ray cluster on this machine: a head and workers that only this machine can reach.

    With --host, the nodes listen on another address of this machine. Their traffic is not
    encrypted, and some information, such as metrics of the machine, is served without a token.

    The nodes require the token in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, or in
    ~/.ray/auth_token, which is created if none exists. Jobs inherit the environment of this
    command, including its passwords and its tracking server.
    """
    cpus = cpus_per_node or max(1, (os.cpu_count() or 1) // (1 + workers))
    with console.ERRORS.status("starting Ray"):
        cluster = start(workers, cpus, port, dashboard_port, host)
    _tell(cluster)
    if json:
        console.result(_as_json(cluster))


@app.command("down")
def down(
    port: Annotated[
        int | None, typer.Option(help="Port of the head node; required if several clusters are up.")
    ] = None,
) -> None:
    """Stop a cluster that `up` started; other Ray processes are not affected."""
    running = clusters()
    chosen = [item for item in running if port in (None, item.port)]
    ports = ", ".join(str(item.port) for item in running) or "none is up"
    if port is not None and not chosen:
        raise UserError(f"--port: {port}, allowed: {ports}")
    if len(chosen) > 1:
        raise UserError(f"--port: several clusters are up, allowed: one of {ports}")
    for cluster in chosen:
        with console.ERRORS.status("stopping Ray"):
            stop(cluster)
        console.echo(f"cluster {cluster.address}: stopped")
    if not chosen:
        console.echo("no cluster is up")


@app.command("status")
def status(json: Json = False) -> None:
    """List the clusters that `up` started on this machine."""
    running = clusters()
    for cluster in running:
        _tell(cluster)
    if not running:
        console.echo("no cluster is up")
    if json:
        console.result({"clusters": [_as_json(item) for item in running]})


def _tell(cluster: LocalCluster) -> None:
    nodes, alive = len(cluster.nodes), cluster.num_alive
    dead = f", {nodes - alive} of them dead" if alive < nodes else ""
    console.echo(
        f"cluster {cluster.address}: a head and {nodes - 1} workers{dead}, "
        f"{cluster.cpus_per_node} CPUs each"
    )
    console.echo(f"  jobs:    intertitle submit --address {cluster.job_server} -- COMMAND")
    console.echo(f"  here:    --address {cluster.address} of precompute and train")
    console.echo(f"  logs:    {cluster.folder}")


def _as_json(cluster: LocalCluster) -> dict[str, object]:
    return {
        "address": cluster.address,
        "job_server": cluster.job_server,
        "nodes": len(cluster.nodes),
        "alive": cluster.num_alive,
        "cpus_per_node": cluster.cpus_per_node,
    }
