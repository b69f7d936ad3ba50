"""Ray sessions of commands: start Ray on this machine or connect to a cluster with its token."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from tenacity import retry, retry_if_exception_type, stop_after_attempt

from intertitle.jobs import console
from intertitle.jobs.cluster.ray_internals import (
    listening_on_loopback,
    refuses_token,
    start_local,
)
from intertitle.pipeline.errors import JobError, UserError

# Default ports of a cluster's head and of its job server.
HEAD_PORT = 6379
JOB_SERVER_PORT = 8265
# Set to avoid a long warning of Ray.
RAY_ENVIRONMENT = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# A call to a node whose connection is lost fails after one minute; by default it takes seven. All
# processes of a cluster must have the same values: a process that gets keepalives more often than
# it expects closes the connection, which ends the task. So the head sets them for its cluster, and
# an existing cluster keeps its values.
RAY_SYSTEM_CONFIG = {
    "grpc_client_keepalive_time_ms": 30000,
    "grpc_client_keepalive_timeout_ms": 30000,
}
# Places where Ray looks for a cluster's token, in this order.
TOKEN_PLACES = "RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token"


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Provide a running Ray while a block runs.

    Args:
        address: address of a cluster ("auto", "host:port" or "ray://host:port"); None uses the
            cluster in RAY_ADDRESS, which is set inside a submitted job, or else starts Ray on this
            machine and stops it afterwards.

    Raises:
        UserError: no cluster answers at the address, or it requires another token.
        JobError: Ray cannot be started on this machine.
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
        if "://" not in address and ":" in address and refuses_token(address):
            raise refusal(address)
    else:
        make_token()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with console.step("starting Ray" if address is None else f"connecting to {address}"):
            _connect(address)
    finally:
        # Ray's handler would end the process as if it had failed.
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


# Ray gives up on a node that takes half a minute to start, which happens on a busy machine.
@retry(retry=retry_if_exception_type(JobError), stop=stop_after_attempt(3), reraise=True)
def _connect(address: str | None) -> None:
    """Start Ray on this machine, or connect to a cluster."""
    import ray

    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with listening_on_loopback() if _is_loopback(address) else nullcontext():
            if address is None:
                start_local(RAY_SYSTEM_CONFIG, include_dashboard=False, **options)
            else:
                ray.init(address=address, **options)
    except Exception as error:
        # Ray has no exception class for this: it raises `Exception` if a node is slow to start.
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if address is None:
            raise JobError(f"Ray does not start on this machine: {line}") from error
        raise UserError(f"address: {address!r}: {line}") from error


def _is_loopback(address: str | None) -> bool:
    """Return whether only this machine reaches a Ray, which therefore listens on 127.0.0.1 alone.

    Ray replaces a loopback address with this machine's own, at which such a cluster never answers.
    """
    if address is None:
        return True
    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost") or not port.isdecimal():
        return False
    from ray.util import get_node_ip_address

    try:
        with socket.create_connection((get_node_ip_address(), int(port)), timeout=2):
            return False
    except OSError:
        return True


def check_token() -> None:
    """Check that this process has a token if it needs one.

    Raises:
        UserError: the token is missing.
    """
    if not _has_token():
        raise UserError(f"token: there is none, allowed: the cluster's, in {TOKEN_PLACES}")


def refusal(address: str) -> UserError:
    """Return the error for a cluster that requires another token."""
    return UserError(
        f"address: {address!r}: refuses this token, allowed: the cluster's, in {TOKEN_PLACES}"
    )


def make_token() -> None:
    """Create a token in ~/.ray/auth_token if there is none, readable only by this user.

    Ray would create one too, but readable by every user of the machine.

    Raises:
        UserError: the file of the token contains none, or can't be written.
    """
    if _has_token():
        return
    file = _token_file()
    try:
        _write_token(file)
    except OSError as error:
        raise UserError(
            f"{file}: {error.strerror or error}: Ray's token can't be kept there; give it in the "
            'environment: export RAY_AUTH_TOKEN="$(openssl rand -hex 32)"'
        ) from error
    if not _has_token():
        raise UserError(f"{file}: no token in it")


def _write_token(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"auth_token.{secrets.token_hex(4)}")
    try:
        with os.fdopen(
            os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w"
        ) as opened:
            opened.write(secrets.token_hex(32))
        # If two processes create a token, the first one wins; a partly written token is never read.
        with suppress(FileExistsError):
            file.hardlink_to(unfinished)
    finally:
        unfinished.unlink(missing_ok=True)


def _has_token() -> bool:
    """Return whether Ray finds a token, or the user disabled authentication."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode.lower() not in ("token", "disabled"):
        # Ray would treat any other value as `disabled`.
        raise UserError(f"RAY_AUTH_MODE: {mode!r}, allowed: token, disabled")
    if mode.lower() == "disabled" or os.environ.get("RAY_AUTH_TOKEN"):
        return True
    if named := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        if not _contains_token(Path(named)):
            raise UserError(f"RAY_AUTH_TOKEN_PATH: {named!r}: no file with a token")
        return True
    return _contains_token(_token_file())


def _token_file() -> Path:
    return Path.home() / ".ray" / "auth_token"


def _contains_token(file: Path) -> bool:
    try:
        return bool(file.read_text("utf-8").strip())
    except (OSError, ValueError):
        return False
