"""`ray start` for a node that only this machine reaches.

    python -m intertitle.jobs.cluster.loopback_node --head --node-ip-address=127.0.0.1 ...

Ray treats 127.0.0.1 as invalid: it replaces it by the machine's external address, and then listens
on every interface. `LOOPBACK` in the environment of a process prevents that for drivers and for a
head. Ray refuses to start a worker node of such a cluster, so this module starts it.
"""

from __future__ import annotations

import sys

LOOPBACK_HOST = "127.0.0.1"

# Setting of Ray, meant for systems whose firewalls ask about each port.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def main() -> None:
    """Run `ray start` with the arguments of this process."""
    from ray._private import ray_constants, services
    from ray.scripts.scripts import main as ray

    services.get_node_ip_address = lambda address=None: "127.0.0.1"
    # Ray refuses clusters of several machines here, but all nodes are on this machine.
    ray_constants.ENABLE_RAY_CLUSTER = True
    sys.argv = ["ray", "start", *sys.argv[1:]]
    ray()


if __name__ == "__main__":
    main()
