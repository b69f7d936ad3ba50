"""What of a cluster each worker of a training gets. Needs a running Ray."""

from __future__ import annotations

import ray

from pipeline.errors import UserError


def on_gpus(workers: int) -> bool:
    """Whether so many workers train on GPUs: where there is one for each."""
    return bool(ray.cluster_resources().get("GPU", 0) >= workers)


def cpus_per_worker(workers: int) -> int:
    """The most cores that each of so many workers can have at once, wherever Ray places them.

    Raises:
        UserError: they are more than the cluster's cores.
    """
    nodes = [int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"]]
    for cpus in range(max(nodes, default=0), 0, -1):
        if sum(node // cpus for node in nodes) >= workers:
            return cpus
    raise UserError(f"workers: {workers}, allowed: at most {sum(nodes)}, one a core of the cluster")
