"""`intertitle cluster`: a Ray cluster on this machine, as far away as any other."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from jobs import console
from jobs.cluster import HEAD_PORT, JOB_SERVER_PORT
from jobs.local_cluster import LOOPBACK_HOST, LocalCluster, clusters, start, stop
from jobs.options import Json
from pipeline.errors import UserError

app = typer.Typer(help="A Ray cluster on this machine: up, down, status.", no_args_is_help=True)


@app.command("up")
def up(
    workers: Annotated[int, typer.Option(min=0, help="Nodes beside the head.")] = 1,
    cpus_per_node: Annotated[
        int | None, typer.Option(min=1, help="Default: this machine's cores over its nodes.")
    ] = None,
    port: Annotated[int, typer.Option(min=1024, max=65535, help="Of the head.")] = HEAD_PORT,
    dashboard_port: Annotated[
        int, typer.Option(min=1024, max=65535, help="Of the job server and Ray's page.")
    ] = JOB_SERVER_PORT,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Of this machine, that its nodes listen on."),
    ] = LOOPBACK_HOST,
    json: Json = False,
) -> None:
    """Start a head and workers, processes of this machine that only this machine reaches.

    With --host they listen on another address of this machine, and what they say is not encrypted;
    some of it, such as figures of the machine, they tell without a token.

    They ask for the token in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, or in
    ~/.ray/auth_token, which is made where there is none. Jobs have the environment of this
    command: its passwords, its tracking server.
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
        int | None, typer.Option(help="Of the head; needed where there are several.")
    ] = None,
) -> None:
    """Stop a cluster that `up` started, and nothing else."""
    found = clusters()
    chosen = [each for each in found if port in (None, each.port)]
    there = ", ".join(str(each.port) for each in found) or "none is up"
    if port is not None and not chosen:
        raise UserError(f"--port: {port}, allowed: {there}")
    if len(chosen) > 1:
        raise UserError(f"--port: several clusters are up, allowed: one of {there}")
    for cluster in chosen:
        with console.ERRORS.status("stopping Ray"):
            stop(cluster)
        console.say(f"cluster {cluster.address}: stopped")
    if not chosen:
        console.say("no cluster is up")


@app.command("status")
def status(json: Json = False) -> None:
    """Say which clusters `up` started on this machine."""
    found = clusters()
    for cluster in found:
        _tell(cluster)
    if not found:
        console.say("no cluster is up")
    if json:
        console.result({"clusters": [_as_json(each) for each in found]})


def _tell(cluster: LocalCluster) -> None:
    nodes, alive = len(cluster.nodes), cluster.num_alive
    dead = f", {nodes - alive} of them dead" if alive < nodes else ""
    console.say(
        f"cluster {cluster.address}: a head and {nodes - 1} workers{dead}, "
        f"{cluster.cpus_per_node} CPUs each"
    )
    console.say(f"  jobs:    intertitle submit --address {cluster.job_server} -- COMMAND")
    console.say(f"  here:    --address {cluster.address} of precompute and train")
    console.say(f"  logs:    {cluster.folder}")


def _as_json(cluster: LocalCluster) -> dict[str, object]:
    return {
        "address": cluster.address,
        "job_server": cluster.job_server,
        "nodes": len(cluster.nodes),
        "alive": cluster.num_alive,
        "cpus_per_node": cluster.cpus_per_node,
    }
