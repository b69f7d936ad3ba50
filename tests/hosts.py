"""Hosts that are network namespaces of this machine, joined by a switch; all see the same disk."""

from __future__ import annotations

import secrets
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPTS = Path(sysconfig.get_path("scripts"))
# A host that is silent for five seconds is dead, and so is a call to it. By default such a call
# waits for minutes, in which the job stands still.
IMPATIENT = {
    "RAY_grpc_client_keepalive_time_ms": "2000",
    "RAY_grpc_client_keepalive_timeout_ms": "3000",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}


@dataclass(frozen=True)
class Host:
    """A host.

    Attributes:
        name: of its namespace.
        address: IPv4.
    """

    name: str
    address: str

    @property
    def within(self) -> tuple[str, ...]:
        """What a command begins with to run there."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        """Cut its wire; it keeps its address."""
        _ip("-n", self.name, "link", "set", "wire", "down")

    def mend(self) -> None:
        """Join a wire again that was cut."""
        _ip("-n", self.name, "link", "set", "wire", "up")
        _ip("-n", self.name, "route", "add", "default", "dev", "wire", "src", self.address)


@contextmanager
def network(num_hosts: int) -> Iterator[list[Host]]:
    """Some hosts; where nobody may make namespaces, the test is skipped."""
    mark = secrets.token_hex(3)
    switch = f"switch-{mark}"
    hosts = [Host(f"host-{n}-{mark}", f"10.98.0.{n}") for n in range(1, 1 + num_hosts)]
    with ExitStack() as undo:
        try:
            for name in (switch, *(host.name for host in hosts)):
                _ip("netns", "add", name)
                undo.callback(_ip, "netns", "del", name)
            _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            _ip("-n", switch, "link", "set", "bridge", "up")
            for n, host in enumerate(hosts):
                _ip("-n", host.name, "link", "add", "wire", "type", "veth",
                    "peer", "name", f"port-{n}", "netns", switch)  # fmt: skip
                _ip("-n", switch, "link", "set", f"port-{n}", "master", "bridge", "up")
                # A host keeps an address that is not the wire's when the wire is cut.
                _ip("-n", host.name, "address", "add", f"{host.address}/32", "dev", "lo")
                _ip("-n", host.name, "link", "set", "lo", "up")
                # On the wire too: gloo takes the first address of its interface.
                _ip("-n", host.name, "address", "add", f"{host.address}/32", "dev", "wire")
                _ip("-n", host.name, "link", "set", "wire", "up")
                _ip("-n", host.name, "route", "add", "default", "dev", "wire", "src", host.address)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"needs the right to make network namespaces: {reason.strip()}")
        yield hosts


@contextmanager
def ray_node(
    host: Host, environment: Mapping[str, str], *options: str, private: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`ray start` on a host; when it is killed, and in the end, all of its processes are gone, as
    their namespace is.

    Args:
        host: where.
        environment: of its processes.
        options: of `ray start`.
        private: a folder that the host has for itself, empty at first: as if it lacked a mount.
    """
    mount = ("sh", "-c", 'mount -t tmpfs tmpfs "$0" && exec "$@"', str(private)) if private else ()
    command = [
        *host.within,
        *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *mount,
        *(str(SCRIPTS / "ray"), "start", "--block", f"--node-ip-address={host.address}"),
        *("--num-gpus=0", *options),
    ]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=dict(environment), stdout=quiet, stderr=quiet) as node:
        try:
            yield node
        finally:
            node.kill()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
