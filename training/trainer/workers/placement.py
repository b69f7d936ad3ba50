"""Resources of the cluster that each worker of a training gets. Needs a running Ray."""

from __future__ import annotations

import ray

from intertitle.pipeline.errors import UserError


def trains_on_gpus(workers: int) -> bool:
    """Return whether the workers train on GPUs: if the cluster has one for each."""
    return bool(ray.cluster_resources().get("GPU", 0) >= workers)


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
