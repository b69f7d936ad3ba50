"""Where Ray is: a cluster of its own for this command, or one that is there."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import JobError, UserError


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A running Ray for the length of a command.

    Args:
        address: of a cluster ("auto", "host:port" or "ray://host:port"); None starts one on this
            machine, and stops it in the end.

    Raises:
        UserError: no cluster answers there.
        JobError: none can be started here.
    """
    # Ray warns at length of what this settles.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A call to a node behind a cut wire ends after a minute; by default it takes seven.
    os.environ.setdefault("RAY_grpc_client_keepalive_time_ms", "30000")
    os.environ.setdefault("RAY_grpc_client_keepalive_timeout_ms", "30000")
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except Exception as error:
        # Ray has no class for this: it raises `Exception` itself where a node is slow to start.
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if address is None:
            raise JobError(f"Ray does not start on this machine: {line}") from error
        raise UserError(f"address: {address!r}: {line}") from error
    try:
        yield
    finally:
        ray.shutdown()
