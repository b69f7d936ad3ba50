"""Ray clusters on this machine: a head and workers, each started here as a process.

Each cluster has its own folder, named after the head's port, with the record of its processes,
their logs, and Ray's files. Other Ray clusters of the machine have other folders and are not
affected.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from intertitle.jobs.cluster.loopback_node import LOOPBACK, LOOPBACK_HOST
from intertitle.jobs.cluster.session import RAY_ENVIRONMENT, RAY_SYSTEM_CONFIG, make_token
from intertitle.pipeline.errors import JobError, UserError

# On two busy cores, a head has needed 80 s.
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 15.0
_RECORD = "cluster.json"


@dataclass(frozen=True, slots=True)
class Node:
    """Process of `ray start`, the session leader of the processes of its node.

    Attributes:
        pid: process id.
        started: start time in seconds since 1970; another one means that the pid was reused.
    """

    pid: int
    started: float

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        with suppress(psutil.Error):
            leader = psutil.Process(self.pid)
            return leader.create_time() == self.started and _runs(leader)
        return False

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the node, even if the one that started the others has ended."""
        with suppress(psutil.Error):
            if psutil.Process(self.pid).create_time() != self.started:
                return []
        members: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                # The leader has a session; drivers of jobs have sessions of their own, below it.
                if os.getsid(process.pid) == self.pid:
                    family = (process, *process.children(recursive=True))
                    members |= {item.pid: item for item in family if _runs(item)}
        return list(members.values())


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """Ray cluster on this machine.

    Attributes:
        folder: folder of the cluster's files.
        port: port of the head.
        dashboard_port: port of the job server.
        cpus_per_node: number of CPUs that Ray assigns to each node.
        host: address of this machine on which the nodes listen.
        nodes: nodes of the cluster, the head first.
    """

    folder: Path
    port: int
    dashboard_port: int
    cpus_per_node: int
    host: str = LOOPBACK_HOST
    nodes: tuple[Node, ...] = ()

    @property
    def address(self) -> str:
        """Address of the head, for `--address` of `precompute` and `train`."""
        return f"{self.host}:{self.port}"

    @property
    def job_server(self) -> str:
        """URL of the job server, for `--address` of `submit` and `jobs`."""
        return f"http://{self.host}:{self.dashboard_port}"

    @property
    def num_alive(self) -> int:
        """Number of nodes that are alive."""
        return sum(node.is_alive() for node in self.nodes)

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the cluster."""
        return [process for node in self.nodes for process in node.processes()]


def clusters() -> list[LocalCluster]:
    """Return the clusters started here of which a process still runs, sorted by port."""
    recorded = [_read(record.parent) for record in _home().glob(f"*/{_RECORD}")]
    return sorted((item for item in recorded if item.processes()), key=lambda item: item.port)


def start(
    workers: int,
    cpus_per_node: int,
    port: int,
    dashboard_port: int,
    host: str = LOOPBACK_HOST,
) -> LocalCluster:
    """Start a head and workers; return when the job server answers and all nodes have joined.

    Args:
        workers: number of nodes besides the head.
        cpus_per_node: number of CPUs that Ray assigns to each node.
        port: port of the head.
        dashboard_port: port of the job server.
        host: address of this machine on which the nodes listen.

    Raises:
        UserError: a port is in use, or the address is not this machine's.
        JobError: Ray does not start; processes that had started are stopped.
    """
    make_token()
    folder = _home() / str(port)
    if folder.exists() and not _read(folder).processes():
        shutil.rmtree(folder)
    return _start(LocalCluster(folder, port, dashboard_port, cpus_per_node, host), workers)


# Ray gives up on a node that takes half a minute to start, which happens on a busy machine.
@retry(retry=retry_if_exception_type(JobError), stop=stop_after_attempt(3), reraise=True)
def _start(cluster: LocalCluster, workers: int) -> LocalCluster:
    _check_ports(cluster)
    try:
        cluster.folder.mkdir(mode=0o700)
    except FileExistsError as error:
        command = f"intertitle cluster down --port {cluster.port}"
        raise UserError(
            f"--port: of {cluster.port} something runs, allowed: `{command}` first"
        ) from error
    _write(cluster)
    with ExitStack() as undo:
        # The record is read again, because it contains the nodes that have started.
        undo.callback(lambda: stop(_read(cluster.folder)))
        head = [
            *("--head", f"--port={cluster.port}", f"--temp-dir={cluster.folder}"),
            *("--include-dashboard=true", f"--dashboard-port={cluster.dashboard_port}"),
            *(f"--dashboard-host={cluster.host}", "--disable-usage-stats"),
            f"--system-config={json.dumps(RAY_SYSTEM_CONFIG)}",
            # Ray's default port is the same for every head, and the node ends if it is in use.
            f"--ray-client-server-port={_free_port()}",
        ]
        started = _start_node(cluster, head)
        _wait(started, lambda: _is_open(cluster.host, cluster.dashboard_port))
        for _ in range(workers):
            # The head has the machine's GPUs, and its log monitor reads the logs of all nodes.
            worker = [f"--address={cluster.address}", "--num-gpus=0", "--include-log-monitor=false"]
            started = _start_node(started, worker)
        _wait(started, lambda: _num_joined(cluster) == 1 + workers)
        undo.pop_all()
    return started


def stop(cluster: LocalCluster) -> None:
    """Stop the processes of a cluster, and no others, and remove its folder."""
    processes = cluster.processes()
    leaders = {node.pid for node in cluster.nodes}
    for process in processes:
        if process.pid in leaders:
            with suppress(psutil.Error):
                process.terminate()
    _, left = psutil.wait_procs(processes, STOP_TIMEOUT_S)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, STOP_TIMEOUT_S)
    shutil.rmtree(cluster.folder, ignore_errors=True)


def _start_node(cluster: LocalCluster, options: list[str]) -> LocalCluster:
    # Jobs use the programs of this Python environment, which may not be on the PATH.
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        **RAY_ENVIRONMENT,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(START_TIMEOUT_S),
    }
    # The variable may name another cluster.
    environment.pop("RAY_ADDRESS", None)
    program = [str(scripts / "ray"), "start"]
    if cluster.host == LOOPBACK_HOST:
        environment |= LOOPBACK
        program = [sys.executable, "-P", "-m", "intertitle.jobs.cluster.loopback_node"]
    with _log(cluster, len(cluster.nodes)).open("wb") as log:
        process = subprocess.Popen(
            [
                *(*program, "--block", f"--node-ip-address={cluster.host}", *options),
                f"--num-cpus={cluster.cpus_per_node}",
                # Ray's default port is the same for every node of a machine.
                "--dashboard-agent-listen-port=0",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cluster.folder,
            # Ctrl-C in the terminal must not reach the cluster.
            start_new_session=True,
        )
    node = Node(process.pid, psutil.Process(process.pid).create_time())
    cluster = replace(cluster, nodes=(*cluster.nodes, node))
    # Recorded at once, so that `stop` knows the node even if this process is killed.
    _write(cluster)
    return cluster


def _wait(cluster: LocalCluster, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_so():
        for index, node in enumerate(cluster.nodes):
            if not node.is_alive():
                raise JobError(f"Ray does not start on this machine: {_why(cluster, index)}")
        if time.monotonic() > deadline:
            raise JobError(f"Ray does not start on this machine in {START_TIMEOUT_S} s")
        time.sleep(0.2)


def _num_joined(cluster: LocalCluster) -> int:
    import requests
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException

    try:
        # Without Ray's filter, which reports the nodes that it leaves out as lost data.
        nodes = list_nodes(cluster.job_server, timeout=10)
    except (RayStateApiException, requests.RequestException):
        return 0
    return sum(node.state == "ALIVE" for node in nodes)


def _why(cluster: LocalCluster, index: int) -> str:
    lines = _log(cluster, index).read_text("utf-8", "replace").split("\n")
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    candidates = errors or [line for line in lines if line.strip()] or ["it says nothing"]
    return candidates[-1].strip()


def _log(cluster: LocalCluster, index: int) -> Path:
    return cluster.folder / f"node-{index}.log"


def _home() -> Path:
    """Return the folder of this user's clusters.

    Its path must be short: the paths of Ray's sockets below it may have up to 107 bytes.
    """
    home = Path(tempfile.gettempdir()) / f"intertitle-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        raise UserError(f"{home}: belongs to another user, allowed: another TMPDIR")
    return home


def _write(cluster: LocalCluster) -> None:
    unfinished = cluster.folder / f"{_RECORD}.new"
    unfinished.write_text(json.dumps(asdict(cluster), default=str))
    unfinished.replace(cluster.folder / _RECORD)


def _read(folder: Path) -> LocalCluster:
    values = json.loads((folder / _RECORD).read_text())
    nodes = tuple(Node(**node) for node in values.pop("nodes"))
    return LocalCluster(**{**values, "folder": folder, "nodes": nodes})


def _runs(process: psutil.Process) -> bool:
    """Return whether a process runs; one that ended but was not waited for is still listed."""
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _check_ports(cluster: LocalCluster) -> None:
    """Check that the ports are free; Ray itself would retry for minutes.

    Raises:
        UserError: a port is in use, or the host is not an address of this machine.
    """
    for option, port in (("--port", cluster.port), ("--dashboard-port", cluster.dashboard_port)):
        with socket.socket() as probe:
            # Set as servers do, so that a recently closed connection does not count as in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((cluster.host, port))
                continue
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    reason = f"{cluster.host}: {error.strerror}"
                    raise UserError(f"--host: {reason}, allowed: an address of here") from error
        is_ours = any(port in (item.port, item.dashboard_port) for item in clusters())
        which = "a cluster that `intertitle cluster up` started" if is_ours else "another program"
        raise UserError(f"{option}: {port} is in use by {which}, allowed: a free port")


def _is_open(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK_HOST, 0))
        return int(free.getsockname()[1])
