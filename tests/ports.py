"""Ports for the servers that tests start."""

from __future__ import annotations

import os
import socket
from itertools import count

# Below those that a system lends to connections, of which a Ray beside takes many before a server
# is up; and of the processes of `make test` each has its own.
_FIRST, _EACH = 20000, 4000
_next = count(os.getpid())


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, none of them given before in this process."""
    first = _FIRST + _EACH * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    found: list[int] = []
    while len(found) < number:
        port = first + next(_next) % _EACH
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found
