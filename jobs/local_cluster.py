"""Ray clusters of this machine alone: a head and workers, each a process that is started here.

What belongs to a cluster is in a folder of its own, named by the head's port: its processes, their
logs, and Ray's files. Other Rays of the machine have other folders, and are never touched.
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

from jobs.cluster import RAY_ENVIRONMENT, RAY_SYSTEM_CONFIG, make_token
from jobs.loopback_node import LOOPBACK
from pipeline.errors import JobError, UserError

# On two busy cores a head has needed eighty.
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 15.0
LOOPBACK_HOST = "127.0.0.1"
_RECORD = "cluster.json"


@dataclass(frozen=True, slots=True)
class Node:
    """A process of `ray start`, which leads all others of its node.

    Attributes:
        pid: of it.
        started: seconds since 1970; another process may have its pid by now.
    """

    pid: int
    started: float

    def is_alive(self) -> bool:
        """Whether it runs."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid)
            return found.create_time() == self.started and _runs(found)
        return False

    def processes(self) -> list[psutil.Process]:
        """All of the node, even when the one that started the others is gone."""
        with suppress(psutil.Error):
            if psutil.Process(self.pid).create_time() != self.started:
                return []
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                # It leads a session; the drivers of jobs lead others, below it.
                if os.getsid(process.pid) == self.pid:
                    family = (process, *process.children(recursive=True))
                    found |= {each.pid: each for each in family if _runs(each)}
        return list(found.values())


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A cluster of this machine.

    Attributes:
        folder: that all of it is in.
        port: of its head.
        dashboard_port: of its job server.
        cpus_per_node: as Ray counts them.
        host: the address of this machine that its nodes listen on.
        nodes: the head first.
    """

    folder: Path
    port: int
    dashboard_port: int
    cpus_per_node: int
    host: str = LOOPBACK_HOST
    nodes: tuple[Node, ...] = ()

    @property
    def address(self) -> str:
        """For `--address` of `precompute` and `train`."""
        return f"{self.host}:{self.port}"

    @property
    def job_server(self) -> str:
        """For `--address` of `submit` and `jobs`."""
        return f"http://{self.host}:{self.dashboard_port}"

    @property
    def num_alive(self) -> int:
        """Of its nodes."""
        return sum(node.is_alive() for node in self.nodes)

    def processes(self) -> list[psutil.Process]:
        """All of them."""
        return [process for node in self.nodes for process in node.processes()]


def clusters() -> list[LocalCluster]:
    """Those that were started here and of which anything runs, by port."""
    found = [_read(record.parent) for record in _home().glob(f"*/{_RECORD}")]
    return sorted((each for each in found if each.processes()), key=lambda each: each.port)


def start(
    workers: int,
    cpus_per_node: int,
    port: int,
    dashboard_port: int,
    host: str = LOOPBACK_HOST,
) -> LocalCluster:
    """Start a head and workers; return when the job server answers and all have joined.

    Args:
        workers: nodes beside the head.
        cpus_per_node: as Ray counts them.
        port: of the head.
        dashboard_port: of the job server.
        host: an address of this machine; all that the nodes listen on is there.

    Raises:
        UserError: a port is in use, or the address is not this machine's.
        JobError: Ray does not start; what had started is stopped.
    """
    make_token()
    folder = _home() / str(port)
    if folder.exists() and not _read(folder).processes():
        shutil.rmtree(folder)
    return _start(LocalCluster(folder, port, dashboard_port, cpus_per_node, host), workers)


# Ray gives a node up that takes half a minute to start, as it may beside other work.
@retry(retry=retry_if_exception_type(JobError), stop=stop_after_attempt(3), reraise=True)
def _start(cluster: LocalCluster, workers: int) -> LocalCluster:
    _check_ports(cluster)
    try:
        cluster.folder.mkdir(mode=0o700)
    except FileExistsError as error:
        down = f"intertitle cluster down --port {cluster.port}"
        raise UserError(
            f"--port: of {cluster.port} something runs, allowed: `{down}` first"
        ) from error
    _write(cluster)
    with ExitStack() as undo:
        # What has started is in the record: it is read again.
        undo.callback(lambda: stop(_read(cluster.folder)))
        head = [
            *("--head", f"--port={cluster.port}", f"--temp-dir={cluster.folder}"),
            *("--include-dashboard=true", f"--dashboard-port={cluster.dashboard_port}"),
            *(f"--dashboard-host={cluster.host}", "--disable-usage-stats"),
            f"--system-config={json.dumps(RAY_SYSTEM_CONFIG)}",
            # Ray's own choice is the same for every head, and one that is taken ends the node.
            f"--ray-client-server-port={_free_port()}",
        ]
        started = _start_node(cluster, head)
        _wait(started, lambda: _is_open(cluster.host, cluster.dashboard_port))
        for _ in range(workers):
            # The head has the machine's GPUs, and its log monitor reads the logs of all.
            worker = [f"--address={cluster.address}", "--num-gpus=0", "--include-log-monitor=false"]
            started = _start_node(started, worker)
        _wait(started, lambda: _num_joined(cluster) == 1 + workers)
        undo.pop_all()
    return started


def stop(cluster: LocalCluster) -> None:
    """Stop a cluster's processes, those alone, and remove its folder."""
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
    # The commands of a job are those of this environment, which need not be on the PATH.
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        **RAY_ENVIRONMENT,
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(START_TIMEOUT_S),
    }
    # Of another cluster.
    environment.pop("RAY_ADDRESS", None)
    program = [str(scripts / "ray"), "start"]
    if cluster.host == LOOPBACK_HOST:
        environment |= LOOPBACK
        program = [sys.executable, "-P", "-m", "jobs.loopback_node"]
    with _log(cluster, len(cluster.nodes)).open("wb") as log:
        process = subprocess.Popen(
            [
                *(*program, "--block", f"--node-ip-address={cluster.host}", *options),
                f"--num-cpus={cluster.cpus_per_node}",
                # Ray's own choice of it is the same for every node of a machine.
                "--dashboard-agent-listen-port=0",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cluster.folder,
            # Ctrl-C in the terminal where it was started is not meant for it.
            start_new_session=True,
        )
    node = Node(process.pid, psutil.Process(process.pid).create_time())
    cluster = replace(cluster, nodes=(*cluster.nodes, node))
    # At once: `stop` has to know of it whatever becomes of this process.
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
        # Not by a filter: Ray takes what that leaves out for lost.
        found = list_nodes(cluster.job_server, timeout=10)
    except (RayStateApiException, requests.RequestException):
        return 0
    return sum(node.state == "ALIVE" for node in found)


def _why(cluster: LocalCluster, index: int) -> str:
    lines = _log(cluster, index).read_text("utf-8", "replace").split("\n")
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception): ", line)]
    said = errors or [line for line in lines if line.strip()] or ["it says nothing"]
    return said[-1].strip()


def _log(cluster: LocalCluster, index: int) -> Path:
    return cluster.folder / f"node-{index}.log"


def _home() -> Path:
    """Where this user's clusters are. Below it Ray's sockets have names of up to 107 bytes."""
    home = Path(tempfile.gettempdir()) / f"intertitle-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    if home.is_symlink() or home.stat().st_uid != os.getuid():
        raise UserError(f"{home}: belongs to another user, allowed: another TMPDIR")
    return home


def _write(cluster: LocalCluster) -> None:
    whole = cluster.folder / f"{_RECORD}.new"
    whole.write_text(json.dumps(asdict(cluster), default=str))
    whole.replace(cluster.folder / _RECORD)


def _read(folder: Path) -> LocalCluster:
    values = json.loads((folder / _RECORD).read_text())
    nodes = tuple(Node(**node) for node in values.pop("nodes"))
    return LocalCluster(**{**values, "folder": folder, "nodes": nodes})


def _runs(process: psutil.Process) -> bool:
    """Whether it does; one that ended and that nobody has waited for is still listed."""
    with suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def _check_ports(cluster: LocalCluster) -> None:
    """Ray itself would try for minutes where another program has a port."""
    for option, port in (("--port", cluster.port), ("--dashboard-port", cluster.dashboard_port)):
        with socket.socket() as probe:
            # As servers do: what is left of a connection is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((cluster.host, port))
                continue
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    reason = f"{cluster.host}: {error.strerror}"
                    raise UserError(f"--host: {reason}, allowed: an address of here") from error
        ours = any(port in (each.port, each.dashboard_port) for each in clusters())
        which = "a cluster that `intertitle cluster up` started" if ours else "another program"
        raise UserError(f"{option}: {port} is in use by {which}, allowed: a free port")


def _is_open(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOOPBACK_HOST, 0))
        return int(free.getsockname()[1])
