"""The whole road on a cluster of several hosts, of which some die and one is cut off."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.storage import failpoints
from tests.hosts import IMPATIENT, SCRIPTS, Host, network, ray_node
from tests.jobs.program import Person, inherited_environment, somebody

pytestmark = pytest.mark.chaos
TIMEOUT_S = 400.0


@pytest.fixture
def person(tmp_path: Path, clip_features: Path) -> Iterator[Person]:
    """Whose commands find the exported network."""
    with somebody(tmp_path) as person:
        person.environment.update(
            XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"], OMP_NUM_THREADS="1", **IMPATIENT
        )
        yield person


# Until so many nodes are there.
JOINED = """
import sys, time
import intertitle.pipeline
import requests
from ray.util.state import list_nodes
from ray.util.state.exception import RayStateApiException

while True:
    try:
        # Not by a filter: Ray takes what that leaves out for lost.
        found = list_nodes(sys.argv[1], timeout=10)
        if sum(node.state == "ALIVE" for node in found) == int(sys.argv[2]):
            break
    except (RayStateApiException, requests.RequestException):
        pass
    time.sleep(0.5)
"""


class Cluster:
    """A head, which trains nothing, and workers of one core each, all hosts of their own."""

    def __init__(self, person: Person, hosts: list[Host], undo: ExitStack) -> None:
        self._person, self._undo = person, undo
        self._head, *self._free = hosts
        self._sessions = person.home / "ray"
        self._sessions.mkdir()
        self.environment = {
            **inherited_environment(),
            "HOME": str(person.home),
            "TMPDIR": str(person.home),
            "RAY_TMPDIR": str(person.home),
            "RAY_AUTH_MODE": "token",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            # All hosts have this machine's name, which is that of its loopback.
            "GLOO_SOCKET_IFNAME": "wire",
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            **person.environment,
        }
        self.nodes: list[tuple[Host, subprocess.Popen[bytes]]] = []

    def start_head(self) -> None:
        """A token first, which all of them have to show."""
        token = self._person.home / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text(secrets.token_hex(32))
        options = ("--head", "--port=6379", "--dashboard-host=0.0.0.0", "--num-cpus=0")
        self._start(self._head, *options)

    def add(self) -> None:
        """A worker more."""
        options = (f"--address={self._head.address}:6379", "--num-cpus=1")
        self._start(self._free.pop(0), *options)

    def wait(self) -> None:
        """Until all have joined."""
        nodes = [f"http://{self._head.address}:8265", str(len(self.nodes))]
        command = [*self._head.within, sys.executable, "-c", JOINED, *nodes]
        subprocess.run(command, env=self.environment, check=True, timeout=TIMEOUT_S)

    def lose(self) -> Host:
        """Kill the oldest worker."""
        host, node = self.nodes.pop(1)
        node.kill()
        return host

    def cut(self) -> None:
        """Cut off the oldest worker, for good."""
        host, _ = self.nodes.pop(1)
        host.cut()

    def submit(self, *command: object) -> subprocess.Popen[str]:
        """Submit a command from the head's host."""
        address = f"http://{self._head.address}:8265"
        return subprocess.Popen(
            [
                *self._head.within,
                *(str(SCRIPTS / "intertitle"), "submit", "--address", address, "--", "intertitle"),
                *map(str, command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._person.folder,
            env=self.environment,
        )

    def _start(self, host: Host, *options: str) -> None:
        # A node unpacks a job's modules anew where another has done so, while they are imported.
        context = ray_node(host, self.environment, *options, private=self._sessions)
        self.nodes.append((host, self._undo.enter_context(context)))


def when(is_so: Callable[[], object], act: Callable[[], object]) -> None:
    """Do something as soon as a thing is so."""

    def wait() -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not is_so():
            if time.monotonic() > deadline:
                return
            time.sleep(0.1)
        act()

    threading.Thread(target=wait, daemon=True).start()


def test_nodes_die_and_a_wire_is_cut_and_all_of_it_is_done(
    person: Person, clips: Path, clip_features: Path
) -> None:
    """Precompute on two workers of which one dies; a training on two, of which one dies and another
    is cut off. Others take their places."""
    store, notes = person.folder / "store", person.folder / "notes"
    notes.mkdir()
    # Wherever the first shard is written, there is time to lose a node.
    person.environment.update({failpoints.VARIABLE: "written=sleep", failpoints.ONCE: str(notes)})
    kept = person.folder / "checkpoints"

    def checkpoints() -> int:
        """The newest one's step."""
        names = kept.glob("*/checkpoint_*")
        return max((int(path.name[-9:]) for path in names), default=0)

    with network(6) as hosts, ExitStack() as undo:
        cluster = Cluster(person, hosts, undo)
        cluster.start_head()
        for _ in range(2):
            cluster.add()
        cluster.wait()
        lost: list[Host] = []

        def lose() -> None:
            lost.append(cluster.lose())
            cluster.add()

        precompute = cluster.submit(
            *("precompute", clips, "--out", store, "--frames", 8, "--shard-items", 10),
            *("--workers", 2),
        )
        when(lambda: list(notes.iterdir()), lose)
        out, err = precompute.communicate(timeout=TIMEOUT_S)
        assert precompute.returncode == 0, out + err
        assert len(lost) == 1
        cluster.wait()
        made, expected = FeatureStore(store), FeatureStore(clip_features)
        assert made.snapshot_id == expected.snapshot_id
        for key in made.snapshot.table["key"].to_pylist():
            assert np.array_equal(made.features(key), expected.features(key))

        training = cluster.submit(
            *("train", "s2vt", "--corpus", clips, "--features", store, "--workers", 2),
            *("--set", "model.embedding_size=12", "--set", "model.hidden_size=16"),
            *("--set", "training.batch_tokens=64", "--set", "training.checkpoint_steps=20"),
            *("--set", "training.epochs=100000", "--set", "training.patience=100000"),
            *("--set", "training.max_steps=400", "--checkpoints", kept, "--json"),
        )
        when(lambda: checkpoints() >= 20, lose)
        seen: list[int] = []

        def cut() -> None:
            seen.append(checkpoints())
            cluster.cut()
            cluster.add()

        when(lambda: len(lost) == 2 and checkpoints() >= 160, cut)
        out, err = training.communicate(timeout=TIMEOUT_S)
        assert training.returncode == 0, out + err
        assert len(lost) == 2 and seen and seen[0] < 400
        assert checkpoints() == 400
        told = json.loads(out.splitlines()[-1])
        assert told["metrics"]["bleu_4"] >= 0
