"""Private names of Ray that have no public counterpart; no other module uses any.

`tests/test_private_names.py` names the versions of Ray that have them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Time in seconds to wait for an answer of a cluster's head.
_TIMEOUT_S = 5.0


@contextmanager
def listening_on_loopback() -> Iterator[None]:
    """Make Ray use 127.0.0.1 as this machine's address and listen only there, within a block.

    `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` has the same effect, for the lifetime of a process.
    """
    from ray._private import ray_constants

    previous = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = previous


def start_local(system_config: dict[str, int], **options: Any) -> None:
    """Start Ray on this machine.

    Args:
        system_config: settings of all processes of this Ray.
        options: further arguments of `ray.init`.
    """
    import ray

    # A copy, because Ray adds entries.
    ray.init(address="local", _system_config=dict(system_config), **options)


def refuses_token(address: str) -> bool:
    """Return whether the head of a cluster answers, and requires another token.

    `ray.init` would retry for 20 s, with a warning every second, and then not say why.

    Args:
        address: "host:port" of the head.
    """
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    try:
        with init_grpc_channel(address) as channel:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=_TIMEOUT_S)
    except grpc.RpcError as error:
        return bool(error.code() == grpc.StatusCode.UNAUTHENTICATED)
    return False


def serve_address() -> tuple[str, int]:
    """Return the host and the port at which the Serve of the connected cluster listens."""
    from ray.serve.context import _get_global_client

    http = _get_global_client().http_config
    return http.host, http.port
