"""`ray start` for a node that only this machine reaches.

    python -m jobs.loopback_node --head --node-ip-address=127.0.0.1 ...

Ray takes 127.0.0.1 for a mistake: it puts the machine's outward address in its place, and then
listens on every interface. `LOOPBACK` in a process' environment stops that, for drivers and for a
head; a worker node of such a cluster Ray would refuse to start, so that it is started here.
"""

from __future__ import annotations

import sys

# Ray's own switch; it is meant for systems where firewalls ask about each port.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def main() -> None:
    """Run `ray start` with this process' arguments."""
    from ray._private import ray_constants, services
    from ray.scripts.scripts import main as ray

    services.get_node_ip_address = lambda address=None: "127.0.0.1"
    # Several nodes of one machine are no cluster of several machines.
    ray_constants.ENABLE_RAY_CLUSTER = True
    sys.argv = ["ray", "start", *sys.argv[1:]]
    ray()


if __name__ == "__main__":
    main()
