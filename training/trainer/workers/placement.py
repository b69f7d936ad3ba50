"""Resources of the cluster that each worker of a training gets. Needs a running Ray."""

from __future__ import annotations

import ray

from intertitle.pipeline.errors import UserError


def trains_on_gpus(workers: int, *, required: bool = False) -> bool:
    """Return whether the workers compute on GPUs: if the cluster has any.

    Args:
        workers: number of workers, each of which needs a GPU of its own.
        required: whether a cluster without GPUs is an error too.

    Raises:
        UserError: there are fewer GPUs than workers. They would compute on CPUs instead, which is
            so much slower that it must not happen unnoticed.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus < workers and (gpus or required):
        raise UserError(f"workers: {workers}, allowed: at most {gpus}, one per GPU of the cluster")
    return gpus >= workers


def cpus_per_worker(workers: int) -> int:
    """Return the largest number of cores that every worker can have, wherever Ray places it.

    Args:
        workers: number of workers.

    Raises:
        UserError: there are more workers than cores in the cluster.
    """
    nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise UserError(
        f"workers: {workers}, allowed: at most {sum(nodes)}, one per core of the cluster"
    )
