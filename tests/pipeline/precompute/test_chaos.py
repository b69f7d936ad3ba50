"""The slow faults: nodes that die, RPCs that get lost, a network that splits, a disk that fills.

Each ends with the snapshot and the bytes of a call that nothing disturbed. Each has a Ray of its
own, in a process of its own, because this session's Ray has to live on.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import pipeline.precompute.run
from pipeline import failpoints
from pipeline.collect import collect
from pipeline.corpus import Corpus
from pipeline.location import location
from pipeline.precompute import PrecomputeOptions, precompute
from pipeline.sampling import Uniform
from pipeline.source import Source, state_of
from pipeline.store import FeatureStore
from pipeline.work import DecodedItem, write_features
from tests.hosts import IMPATIENT, SCRIPTS, network, ray_node

pytestmark = pytest.mark.chaos

SHARD_ITEMS = 10
NUM_CLIPS = 24
# Of one driver: on two busy cores none has needed fifty.
TIMEOUT_S = 150.0

# What every driver begins with. The pipeline comes first: it says how Ray authenticates.
MAKE = """
import sys
from pipeline.corpus import Corpus
from pipeline.precompute import PrecomputeOptions, precompute
from pipeline.sampling import Uniform
import ray

def make(workers, on_progress=lambda progress: None):
    options = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=10, workers=workers)
    precompute(Corpus(sys.argv[1]), sys.argv[2], options, on_progress)
"""


@pytest.fixture
def environment(clip_features: Path) -> Iterator[dict[str, str]]:
    """Of processes that have nothing to do with this session's Ray, beside the exported network."""
    # Not under pytest's own folder: the names of Ray's sockets have to stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        ours = {k: v for k, v in os.environ.items() if k != "RAY_OVERRIDE_RESOURCES"}
        yield {
            **ours,
            "PYTHONPATH": str(Path.cwd()),
            "RAY_TMPDIR": folder,
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command. One that takes too long is killed, and its Ray with it, which shares its fate.

    Files take what it says: a process that outlives it would hold a pipe open.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        ended = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(command, ended.returncode, out.read(), err.read())


def run_driver(
    script: str, environment: dict[str, str], *arguments: object, within: tuple[str, ...] = ()
) -> None:
    """Run a script after MAKE, which asserts for itself what only it can see."""
    command = [*within, sys.executable, "-c", MAKE + script, *map(str, arguments)]
    ended = run(command, environment)
    assert ended.returncode == 0, ended.stderr


def assert_undisturbed(store: Path, clip_features: Path) -> None:
    """A store is what it would have been, whatever happened: published once, and whole."""
    made, expected = FeatureStore(store), FeatureStore(clip_features)
    assert made.snapshot_id == expected.snapshot_id
    assert made.snapshot.shards == expected.snapshot.shards
    assert [p.stem for p in (store / "snapshots").iterdir()] == [made.snapshot_id]
    assert not list((store / "pending").iterdir())
    for key in made.snapshot.table["key"].to_pylist():
        assert np.array_equal(made.features(key), expected.features(key))


def attempts(store: Path) -> list[Path]:
    """Files that were written as a shard and never accepted."""
    named = FeatureStore(store).snapshot.shards if (store / "CURRENT").exists() else {}
    return [file for file in (store / "shards").iterdir() if file.name not in named]


# Ray spreads actors by chance; here each needs a home, and what a node has of these is the test's.
HOUSED = """
from ray.actor import ActorClass

def housed(self, args=None, kwargs=None, remote=ActorClass._remote, **options):
    options["resources"] = {**(options.get("resources") or {}), "home": 1}
    return remote(self, args, kwargs, **options)

ActorClass._remote = housed
"""


# Somebody dies

NODE_DIES = (
    HOUSED
    + """
from ray._private.state import actors
from ray.cluster_utils import Cluster

workers, homes = int(sys.argv[3]), []
head = {"include_dashboard": False, "resources": {"home": workers - 1}}
cluster = Cluster(initialize_head=True, connect=True, head_node_args=head)
victim = cluster.add_node(resources={"home": 1})

def lose(progress):
    if victim in cluster.worker_nodes and progress.done >= int(sys.argv[4]):
        homes.extend(actor["Address"]["NodeID"] for actor in actors().values())
        cluster.add_node(resources={"home": 1})
        cluster.remove_node(victim, allow_graceful=False)

make(workers, lose)
assert sorted(homes) == sorted((victim.node_id, cluster.head_node.node_id)[:workers]), homes
assert len(ray.nodes()) == 3 and sum(node["Alive"] for node in ray.nodes()) == 2
# The driver leaves first: Ray ends one whose node is gone with exit code 1.
ray.shutdown()
cluster.shutdown()
"""
)


@pytest.mark.parametrize(("workers", "done"), [(1, 8), (2, 4)])
def test_a_node_that_dies_takes_nothing_along(
    workers: int,
    done: int,
    clips: Path,
    clip_features: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """Of three nodes one is killed, with the one backbone and all features, or with one of two."""
    run_driver(NODE_DIES, environment, clips, tmp_path, workers, done)
    assert_undisturbed(tmp_path, clip_features)


WORKERS_DIE = """
import random
import signal
import threading
import psutil

def is_worker(process):
    # Of the raylet's other children, the agents, it can't lose one and live.
    name = process.cmdline()[0] if process.cmdline() else ""
    return name.startswith("ray::") and not name.endswith("Agent")

def kill():
    chance = random.Random(7)
    for _ in range(5):
        found = filter(is_worker, psutil.Process().children(recursive=True))
        victim = chance.choice(sorted(found, key=lambda process: process.pid))
        killed.append(victim.cmdline()[0])
        victim.send_signal(signal.SIGKILL)
        if over.wait(1):
            return

ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
killed, over, killer = [], threading.Event(), threading.Thread(target=kill)
make(2, lambda progress: progress.done == 0 and killer.start())
over.set()
killer.join()
assert len(killed) >= 3, killed
"""


def test_workers_killed_at_random_are_followed_by_others(
    clips: Path, clip_features: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """A process of Ray's, whichever it is, gets SIGKILL every second."""
    run_driver(WORKERS_DIE, environment, clips, tmp_path)
    assert_undisturbed(tmp_path, clip_features)


PREEMPTIONS = """
import random
import signal
import threading
import time
import psutil

def workers():
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            name = " ".join(process.cmdline())
        except psutil.Error:
            # It has just been killed.
            continue
        if name.startswith("ray::") and "Agent" not in name:
            found[process.pid] = name
    return found

def kill():
    chance = random.Random(11)
    while len(killed) < 20 and not over.wait(1):
        found = workers()
        busy = {pid: name for pid, name in found.items() if "IDLE" not in name} or found
        if busy:
            victim = chance.choice(sorted(busy))
            killed.append(busy[victim])
            psutil.Process(victim).send_signal(signal.SIGKILL)

ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
killed, over, killer = [], threading.Event(), threading.Thread(target=kill)

def spread(progress):
    if progress.done == 0:
        killer.start()
    # The call is short: it waits for its share of the kills.
    while killer.is_alive() and len(killed) < 20 * progress.done / progress.total:
        time.sleep(0.1)

make(2, spread)
over.set()
killer.join()
assert len(killed) == 20 and sum("Backbone" in name for name in killed) > 4, killed
"""


def test_twenty_preemptions_of_one_job_change_no_byte(
    clips: Path, clip_features: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Backbones and decoders are killed, more often than a budget for a whole life would bear."""
    run_driver(PREEMPTIONS, environment, clips, tmp_path)
    assert_undisturbed(tmp_path, clip_features)


# A node is not like the others

WITHOUT_MOUNT = """
import logging
import time

near = sys.argv[3]
logging.basicConfig(level=logging.WARNING)
ray.init(f"{near}:6379", _node_ip_address=near, log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.2)
make(2)
"""


def test_a_node_that_lacks_the_mount_gets_no_more_work(
    clips: Path, clip_features: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """Of two hosts the far one has an empty folder where the clips are, and three times the cores:
    most chunks go there first, and fail at once."""
    with (
        network(2) as (near, far),
        ray_node(
            near, environment, "--num-cpus=1", "--head", "--port=6379", "--include-dashboard=false"
        ),
        ray_node(far, environment, "--num-cpus=3", f"--address={near.address}:6379", hidden=clips),
    ):
        command = [sys.executable, "-c", MAKE + WITHOUT_MOUNT]
        ended = run([*near.within, *command, str(clips), str(tmp_path), near.address], environment)
    assert ended.returncode == 0, ended.stderr
    assert_undisturbed(tmp_path, clip_features)
    assert f"node {far.address}" in ended.stderr and "it gets no more of this call" in ended.stderr


# Messages are lost

RPCS_FAIL = """
ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
make(2)
"""


@pytest.mark.parametrize("lost", ["req_failure_prob", "resp_failure_prob"])
def test_a_lost_rpc_neither_loses_nor_doubles_an_item(
    lost: str, clips: Path, clip_features: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """A quarter of the messages that start a task, or of their answers, until twenty are lost."""
    chances = dict.fromkeys(("req_failure_prob", "resp_failure_prob", "in_flight_failure_prob"), 0)
    failure = {"num_failures": 20, **chances, lost: 25}
    environment["RAY_testing_rpc_failure"] = json.dumps(
        {"CoreWorkerService.grpc_client.PushTask": failure}
    )
    run_driver(RPCS_FAIL, environment, clips, tmp_path)
    assert_undisturbed(tmp_path, clip_features)


# The network splits

ON_NEAR = (
    HOUSED
    + """
near = sys.argv[3]

@ray.remote(num_cpus=0, resources={f"node:{near}": 0.1})
class Guest:
    def arrive(self): ...

def leave(progress):
    if progress.done:
        ray.kill(guest)

ray.init(f"{near}:6379", _node_ip_address=near, log_to_driver=False)
# The near host's home is taken until the backbone has settled on the far one.
guest = Guest.remote()
ray.get(guest.arrive.remote())
make(1, leave)
assert sum(node["Alive"] for node in ray.nodes()) == 1
"""
)


def test_a_split_network_publishes_once(
    clips: Path,
    clip_features: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """The wire is cut while the far host holds a shard that it wrote and has not told of yet.

    It goes on, finishes, and finds nobody to tell; the near one takes it for dead, and makes its
    shards again. Both see the same disk.
    """
    store, notes = tmp_path / "store", tmp_path / "notes"
    notes.mkdir()
    environment |= IMPATIENT
    slow = {failpoints.VARIABLE: "written=sleep", failpoints.ONCE: str(notes)}
    one = ("--num-cpus=1", '--resources={"home": 1}')
    over = threading.Event()

    def cut() -> None:
        while not over.wait(0.02):
            if list(notes.iterdir()):
                near.cut()
                return

    cutter = threading.Thread(target=cut)
    with (
        network(2) as (near, far),
        ray_node(near, environment, *one, "--head", "--port=6379", "--include-dashboard=false"),
        ray_node(far, environment | slow, *one, f"--address={near.address}:6379"),
    ):
        cutter.start()
        try:
            run_driver(ON_NEAR, environment, clips, store, near.address, within=near.within)
        finally:
            over.set()
            cutter.join()
        assert list(notes.iterdir())
        assert_undisturbed(store, clip_features)
        # What the far host had written lies there, and nobody reads it.
        assert attempts(store)


# Memory fills

LARGE_FRAMES = """
import os
from ray._private.internal_api import memory_summary

ray.init(
    "local", num_cpus=4, num_gpus=0, include_dashboard=False, log_to_driver=False,
    object_store_memory=150 << 20,
)
options = PrecomputeOptions(sys.argv[3], Uniform(8), shard_items=10, workers=1)
report = precompute(Corpus(sys.argv[1]), sys.argv[2], options)
assert report.stored == 24, report
summary = memory_summary(ray.get_runtime_context().gcs_address, stats_only=True)
assert "Spilled" not in summary, summary
"""


def test_large_frames_do_not_fill_a_small_object_store(
    clips: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """24 clips of eight frames of 1024 x 1024 pixels are 600 MB; the store holds 150."""
    network = tmp_path / "network.onnx"
    size = 1024
    nodes = [
        helper.make_node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", size, size, 3])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([1, 2], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    network.write_bytes(model.SerializeToString())
    run_driver(LARGE_FRAMES, environment, clips, tmp_path / "store", f"onnx:{network}")


# A disk fills


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of a size that a test may change: a function from the size to its folder."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def resize(size: str) -> Path:
        options = f"remount,size={size}" if disk.is_mount() else f"size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            pytest.skip(f"needs the right to mount a file system: {reason.strip()}")
        return disk

    yield resize
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_named_and_the_command_goes_on_when_there_is_room(
    clips: Path,
    clip_features: Path,
    environment: dict[str, str],
    small_disk: Callable[[str], Path],
) -> None:
    """The store is on a disk that is too small for a shard, then for the second, then large."""
    store = small_disk("150k") / "store"
    command = [
        *(str(SCRIPTS / "intertitle"), "precompute", str(clips), "--out", str(store)),
        *("--frames=8", f"--shard-items={SHARD_ITEMS}", "--workers=1", "--json"),
    ]
    environment["RAY_OVERRIDE_RESOURCES"] = '{"CPU": 2, "GPU": 0}'
    for size, kept in (("150k", 0), ("700k", 1)):
        small_disk(size)
        ended = run(command, environment)
        assert ended.returncode == 1
        said = f"intertitle: {store}: No space left on device; nothing is published"
        assert [line for line in ended.stderr.splitlines() if line.startswith("intertitle")] == [
            said
        ]
        assert "Traceback" not in ended.stderr
        assert not (store / "CURRENT").exists() and not (store / "snapshots").exists()
        assert len(list(store.glob("pending/*.parquet"))) == kept
        assert len(list(store.glob("shards/*.arrow"))) == kept
    small_disk("8m")
    ended = run(command, environment)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["snapshot"] == FeatureStore(clip_features).snapshot_id
    assert_undisturbed(store, clip_features)


# Somebody is late


def test_a_straggler_is_ignored_and_collected(
    clips: Path, clip_features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was given up writes its attempt at a shard after the snapshot is published."""
    store = tmp_path / "store"
    shutil.copytree(clip_features, store)
    before, whole = sorted(store.rglob("*")), FeatureStore(clip_features)
    sources = [Source(item, str(clips)) for item in Corpus(clips).items()[:SHARD_ITEMS]]
    read = [whole.read(source.item.key) for source in sources]
    _, late = write_features(
        str(store / "shards" / "shard-00000"),
        "arrow",
        (1280,),
        [DecodedItem(s, state_of(s), r.times_s) for s, r in zip(sources, read, strict=True)],
        *(item.values for item in read),
    )
    assert late.sha256 in {shard.sha256 for shard in whole.snapshot.shards.values()}
    assert attempts(store) == [store / "shards" / late.name]
    assert_undisturbed(store, clip_features)

    options = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=SHARD_ITEMS)
    with monkeypatch.context() as patch:
        # There is nothing left to do, so nobody may do anything.
        patch.setattr(pipeline.precompute.run, "Flow", None)
        report = precompute(Corpus(clips), store, options)
    assert (report.snapshot, report.skipped) == (whole.snapshot_id, NUM_CLIPS)

    collected = collect(location(store), keep=(), dry_run=False)
    removed = {kind: pile.num_files for kind, pile in collected.removed.items() if pile.num_files}
    assert removed == {"attempts": 1}
    assert sorted(store.rglob("*")) == before
    assert_undisturbed(store, clip_features)
