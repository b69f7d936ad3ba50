"""Where Ray is: a cluster of its own for this command, or one that is there; and who may use it."""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from pipeline.errors import JobError, UserError

# Where a cluster's head and its job server listen.
HEAD_PORT = 6379
JOB_SERVER_PORT = 8265
# Ray warns at length of what this settles.
RAY_ENVIRONMENT = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# A call to a node behind a cut wire ends after a minute; by default it takes seven. All processes
# of a cluster have to agree on it: one that is asked more often than it expects hangs up, which
# ends the task. So a cluster has it from its head, and one that is there keeps what it has.
RAY_SYSTEM_CONFIG = {
    "grpc_client_keepalive_time_ms": 30000,
    "grpc_client_keepalive_timeout_ms": 30000,
}
# Where Ray looks for the token that a cluster asks for, in this order.
TOKEN_PLACES = "RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """A running Ray for the length of a command.

    Args:
        address: of a cluster ("auto", "host:port" or "ray://host:port"); None takes the one that
            RAY_ADDRESS names, as it does inside a submitted job, else starts one on this machine,
            and stops it in the end.

    Raises:
        UserError: no cluster answers there, or it asks for another token.
        JobError: none can be started here.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        check_token()
        _check_accepted(address)
    else:
        make_token()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _connect(address)
    finally:
        # Ray's own ends the process as if it had failed.
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


# Ray gives a node up that takes half a minute to start, as it may beside other work.
@retry(retry=retry_if_exception_type(JobError), stop=stop_after_attempt(3), reraise=True)
def _connect(address: str | None) -> None:
    """Start Ray on this machine, or connect to a cluster."""
    import ray

    try:
        with _on_loopback() if _is_loopback(address) else nullcontext():
            ray.init(
                address=address or "local",
                # Ray adds to it.
                _system_config=None if address else dict(RAY_SYSTEM_CONFIG),
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


def _is_loopback(address: str | None) -> bool:
    """Whether only this machine reaches a Ray: its own, or what `intertitle cluster up` started."""
    from jobs.local_cluster import LOOPBACK_HOST, clusters

    return address is None or any(
        each.address == address and each.host == LOOPBACK_HOST for each in clusters()
    )


@contextmanager
def _on_loopback() -> Iterator[None]:
    """A block in which Ray takes 127.0.0.1 for this machine's address, and listens there alone."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def check_token() -> None:
    """Make sure that this process has a token, where it has to show one.

    Raises:
        UserError: there is none.
    """
    if not _has_token():
        raise UserError(f"token: there is none, allowed: the cluster's, in {TOKEN_PLACES}")


def refusal(address: str) -> UserError:
    """What to tell the user of a cluster that asks for another token."""
    return UserError(
        f"address: {address!r}: refuses this token, allowed: the cluster's, in {TOKEN_PLACES}"
    )


def _check_accepted(address: str) -> None:
    # Ray's own client asks again for twenty seconds, with a warning each second.
    import grpc
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated.gcs_service_pb2 import GetClusterIdRequest
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    if "://" in address or ":" not in address:
        return
    try:
        with init_grpc_channel(address) as channel:
            NodeInfoGcsServiceStub(channel).GetClusterId(GetClusterIdRequest(), timeout=5)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAUTHENTICATED:
            raise refusal(address) from error


def make_token() -> None:
    """Make a token where this machine has none yet, in ~/.ray/auth_token, for its user alone.

    Ray would make one too, for every user of the machine to read.

    Raises:
        UserError: there is a file for it, and no token in that; or it can't be written.
    """
    if _has_token():
        return
    from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader

    file = Path.home() / ".ray" / "auth_token"
    try:
        _write_token(file)
    except OSError as error:
        raise UserError(
            f"{file}: {error.strerror or error}: Ray's token can't be kept there; give it in the "
            'environment: export RAY_AUTH_TOKEN="$(openssl rand -hex 32)"'
        ) from error
    AuthenticationTokenLoader.instance().reset_cache()
    if not _has_token():
        raise UserError(f"{file}: no token in it")


def _write_token(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = file.with_name(f"auth_token.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(secrets.token_hex(32))
        # Of two that make one at the same time the first wins, and nobody reads half a token.
        with suppress(FileExistsError):
            file.hardlink_to(whole)
    finally:
        whole.unlink(missing_ok=True)


def _has_token() -> bool:
    """Whether Ray finds a token, or needs none because the user said so."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode.lower() not in ("token", "disabled"):
        # Ray would take it for `disabled`.
        raise UserError(f"RAY_AUTH_MODE: {mode!r}, allowed: token, disabled")
    if mode.lower() == "disabled":
        return True
    from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader
    from ray.exceptions import AuthenticationError

    try:
        return bool(AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True))
    except AuthenticationError as error:
        if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
            raise UserError(f"RAY_AUTH_TOKEN_PATH: {named!r}: no file with a token") from error
        return False
