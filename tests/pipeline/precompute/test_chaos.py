"""The slow faults: nodes that die, RPCs that get lost, a network that splits, a disk that fills, a
file system that fails, two drivers at once, a worker that is late.

Each ends with the snapshot and the bytes of a call that nothing disturbed. Each has a Ray of its
own, in a process of its own, because this session's Ray has to live on.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from onnx import TensorProto, helper, numpy_helper

import intertitle.pipeline.precompute.run
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.feature_store.gc import collect
from intertitle.pipeline.feature_store.shards import file_sha256
from intertitle.pipeline.feature_store.store import FeatureStore
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.run import precompute
from intertitle.pipeline.storage import failpoints
from intertitle.pipeline.storage.paths import as_path
from tests.hosts import IMPATIENT, SCRIPTS, Host, network, ray_node

pytestmark = pytest.mark.chaos

SHARD_ITEMS = 10
NUM_CLIPS = 24
# Of one driver: on two cores with a load of 50 one has needed 150.
TIMEOUT_S = 400.0

# What every driver begins with. The pipeline comes first: it says how Ray authenticates.
MAKE = """
import sys
from intertitle.pipeline.corpus import Corpus
from intertitle.pipeline.precompute.options import PrecomputeOptions
from intertitle.pipeline.precompute.run import precompute
from intertitle.pipeline.decoding.sampling import Uniform
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
    assert not list(store.glob("pending/*"))
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
import contextlib
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
    while len(killed) < 5:
        # One may end while it is looked at, and others may not have started yet.
        with contextlib.suppress(psutil.Error, IndexError):
            found = filter(is_worker, psutil.Process().children(recursive=True))
            victim = chance.choice(sorted(found, key=lambda process: process.pid))
            name = victim.cmdline()[0]
            victim.send_signal(signal.SIGKILL)
            killed.append(name)
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
    looks = 0
    while len(killed) < 20 and not over.wait(1):
        found = workers()
        backbones = [pid for pid, name in found.items() if "Backbone" in name]
        # The short tasks are many: every other victim is a backbone, if one starts in time.
        looks += 1
        if len(killed) % 2 and not backbones and looks < 20:
            continue
        busy = [pid for pid, name in found.items() if "IDLE" not in name]
        candidates = backbones if len(killed) % 2 and backbones else busy or list(found)
        if candidates:
            looks = 0
            victim = chance.choice(sorted(candidates))
            killed.append(found[victim])
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
        ray_node(far, environment, "--num-cpus=3", f"--address={near.address}:6379", private=clips),
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
    # The last shard is smaller: it may fit beside the first, if it is written before the call ends.
    for size, kept in (("150k", {0}), ("700k", {1, 2})):
        small_disk(size)
        ended = run(command, environment)
        assert ended.returncode == 1
        said = f"intertitle: {store}: No space left on device; nothing is published"
        assert [line for line in ended.stderr.splitlines() if line.startswith("intertitle")] == [
            said
        ]
        assert "Traceback" not in ended.stderr
        assert not (store / "CURRENT").exists() and not (store / "snapshots").exists()
        pending = len(list(store.glob("pending/*.parquet")))
        assert pending in kept and len(list(store.glob("shards/*.arrow"))) == pending
    small_disk("8m")
    ended = run(command, environment)
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["snapshot"] == FeatureStore(clip_features).snapshot_id
    assert_undisturbed(store, clip_features)


# A file system fails

# Python runs a module of this name as it starts, so every process has it.
FAULTY_S3 = """
import errno
import os
from pathlib import Path

from s3fs import S3FileSystem

FAULTS = os.environ["FAULTS"].split()
NOTES = Path(os.environ["FAULT_NOTES"])


def next_fault():
    for number, fault in enumerate(FAULTS):
        try:
            (NOTES / f"{number} {fault}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return fault
    return os.environ["FAULT_EVER"]


put_file = S3FileSystem._put_file


async def faulty_put_file(self, lpath, rpath, *args, **kwargs):
    fault = next_fault()
    if fault == "error":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    if fault == "short":
        data = Path(lpath).read_bytes()
        await self._pipe_file(rpath, data[: len(data) // 2])
        return
    await put_file(self, lpath, rpath, *args, **kwargs)


S3FileSystem._put_file = faulty_put_file
"""


@pytest.mark.parametrize("ever", ["", "error", "short"])
def test_short_writes_and_errors_are_tried_again_and_those_that_stay_are_named(
    ever: str,
    clips: Path,
    clip_features: Path,
    object_store: Path,
    environment: dict[str, str],
    tmp_path: Path,
) -> None:
    """Three faults that pass, in all workers together; or one that stays."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "sitecustomize.py").write_text(FAULTY_S3)
    notes = tmp_path / "notes"
    notes.mkdir()
    environment |= {
        "PYTHONPATH": f"{packages}{os.pathsep}{environment['PYTHONPATH']}",
        "FAULTS": "" if ever else "short error short",
        "FAULT_EVER": ever,
        "FAULT_NOTES": str(notes),
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 2, "GPU": 0}',
    }
    bucket = f"faulty-{tmp_path.name}"
    store = object_store / "bucket" / bucket / "store"
    ended = run(
        [
            *(str(SCRIPTS / "intertitle"), "precompute", str(clips)),
            *("--out", f"s3://bucket/{bucket}/store", "--frames=8"),
            *(f"--shard-items={SHARD_ITEMS}", "--workers=1", "--json"),
        ],
        environment,
    )
    if ever:
        assert ended.returncode == 1
        told = [line for line in ended.stderr.splitlines() if line.startswith("intertitle")]
        assert len(told) == 1 and told[0].endswith("nothing is published")
        assert ("Input/output error" if ever == "error" else "bytes arrived") in told[0]
        assert "Traceback" not in ended.stderr
        assert not (store / "CURRENT").exists() and not list(store.glob("snapshots/*"))
    else:
        assert ended.returncode == 0, ended.stderr
        assert len(list(notes.iterdir())) == 3
        assert_undisturbed(store, clip_features)


# Two drivers

WRITER = """
import time
from pathlib import Path
import intertitle.pipeline.storage.lock
import intertitle.pipeline.feature_store.snapshot

near, notes, name = sys.argv[3], Path(sys.argv[4]), sys.argv[5]
# So long a lease outlives its holder.
intertitle.pipeline.storage.lock.LEASE_S = 15.0

def pause(place, subject=""):
    if place == "before-pointer":
        (notes / f"{name} is about to publish").touch()
        while not (notes / f"{name} may go on").exists():
            time.sleep(0.1)

intertitle.pipeline.feature_store.snapshot.failpoint = pause
ray.init("local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False,
         _node_ip_address=near)
make(1)
"""


class Writers:
    """Drivers on hosts of their own, which write to one store behind a server on another host.

    Each has a Ray of its own and waits for permission before it moves the store's pointer.
    """

    def __init__(
        self, server: Host, environment: dict[str, str], corpus: Path, folder: Path, undo: ExitStack
    ) -> None:
        self._environment, self._corpus, self._undo = environment, corpus, undo
        self._notes = folder / "notes"
        self._notes.mkdir()
        self.store = folder / "served" / "bucket" / "store"
        self.store.parent.mkdir(parents=True)
        address = f"{server.address}:9000"
        command = [*server.within, str(SCRIPTS / "rclone"), "serve", "s3"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(
            [*command, "--addr", address, "--auth-key", "key,not-a-secret", folder / "served"],
            stdout=quiet,
            stderr=quiet,
        )
        undo.callback(process.kill)
        environment["AWS_ENDPOINT_URL"] = f"http://{address}"

    def start(self, host: Host, name: str) -> subprocess.Popen[str]:
        """Start a driver on a host."""
        tmp = Path(self._environment["RAY_TMPDIR"]) / name
        tmp.mkdir()
        errors = self._undo.enter_context((self._notes / f"errors of {name}").open("w"))
        process = subprocess.Popen(
            [
                *(*host.within, sys.executable, "-c", MAKE + WRITER, str(self._corpus)),
                *("s3://bucket/store", host.address, str(self._notes), name),
            ],
            env={**self._environment, "RAY_TMPDIR": str(tmp)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
        )
        self._undo.callback(process.kill)
        return process

    def is_about_to_publish(self, name: str) -> bool:
        """Whether a driver waits for permission."""
        return (self._notes / f"{name} is about to publish").exists()

    def lease(self) -> str:
        """What the holder of the store wrote when it last renewed its lease."""
        return (self.store / "LOCK").read_text()

    def permit(self, name: str) -> None:
        """Let a driver publish."""
        (self._notes / f"{name} may go on").touch()

    def errors(self, name: str) -> str:
        """What a driver printed."""
        return (self._notes / f"errors of {name}").read_text()


def wait_until(is_so: Callable[[], object], what: str) -> None:
    """Wait for something; fail when it does not come."""
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


@pytest.fixture
def writers(
    clips: Path, environment: dict[str, str], tmp_path: Path
) -> Iterator[tuple[Writers, Host, Host]]:
    """A store's server and two hosts to write from."""
    with network(3) as (server, one, other), ExitStack() as undo:
        yield Writers(server, environment, clips, tmp_path, undo), one, other


def test_of_two_drivers_on_two_hosts_one_writes_and_the_other_is_told_who(
    writers: tuple[Writers, Host, Host], clip_features: Path
) -> None:
    """They begin at once; the one that writes does not end before the other has."""
    shared, one, other = writers
    drivers = {"one": shared.start(one, "one"), "two": shared.start(other, "two")}
    wait_until(lambda: any(d.poll() is not None for d in drivers.values()), "one is refused")
    (refused,) = (name for name, driver in drivers.items() if driver.poll() is not None)
    (writing,) = drivers.keys() - {refused}
    assert drivers[refused].returncode == 1
    assert re.search(
        r"Error: s3://bucket/store: process \d+ on \S+ is writing to this store; one at a time$",
        shared.errors(refused),
        re.MULTILINE,
    )
    wait_until(lambda: shared.is_about_to_publish(writing), "the other has made all shards")
    assert not (shared.store / "CURRENT").exists()
    shared.permit(writing)
    assert drivers[writing].wait(TIMEOUT_S) == 0, shared.errors(writing)
    assert_undisturbed(shared.store, clip_features)
    assert not attempts(shared.store)


def test_a_driver_that_was_cut_off_does_not_publish_over_the_one_that_took_its_place(
    writers: tuple[Writers, Host, Host], clip_features: Path
) -> None:
    """The wire of the first is cut before it moves the pointer, and mended when the second has."""
    shared, one, other = writers
    first = shared.start(one, "first")
    wait_until(lambda: shared.is_about_to_publish("first"), "the first has made all shards")
    # Not while it renews its lease: what is on the way then would arrive in the end.
    before = shared.lease()
    wait_until(lambda: shared.lease() not in (before, ""), "the first renews its lease")
    one.cut()
    second = shared.start(other, "second")
    wait_until(lambda: shared.is_about_to_publish("second"), "the second has taken over")
    one.mend()
    shared.permit("first")
    assert first.wait(TIMEOUT_S) == 1
    assert (
        "intertitle.pipeline.errors.JobError: s3://bucket/store: another process took this store "
        "over meanwhile\n"
    ) in shared.errors("first")
    assert not (shared.store / "CURRENT").exists()
    shared.permit("second")
    assert second.wait(TIMEOUT_S) == 0, shared.errors("second")
    assert_undisturbed(shared.store, clip_features)
    assert not attempts(shared.store)


# Somebody is late


def test_a_straggler_is_ignored_and_collected(
    clips: Path,
    clip_features: Path,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The far host stands still as it begins to write a shard, and is given up. The process that
    wrote goes on after the snapshot is published, and finishes its attempt."""
    store, notes = tmp_path / "store", tmp_path / "notes"
    notes.mkdir()
    environment |= IMPATIENT
    slow = {failpoints.VARIABLE: "write=sleep", failpoints.ONCE: str(notes)}
    one = ("--num-cpus=1", '--resources={"home": 1}')
    over = threading.Event()
    frozen: list[tuple[psutil.Process, str]] = []

    def freeze(node: subprocess.Popen[bytes]) -> None:
        while not over.wait(0.02):
            if list(notes.iterdir()):
                for process in psutil.Process(node.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        process.suspend()
                        frozen.append((process, " ".join(process.cmdline())))
                return

    with (
        network(2) as (near, far),
        ray_node(near, environment, *one, "--head", "--port=6379", "--include-dashboard=false"),
        ray_node(far, environment | slow, *one, f"--address={near.address}:6379") as node,
    ):
        freezer = threading.Thread(target=freeze, args=(node,))
        freezer.start()
        try:
            run_driver(ON_NEAR, environment, clips, store, near.address, within=near.within)
        finally:
            over.set()
            freezer.join()
        assert frozen
        assert_undisturbed(store, clip_features)
        assert not attempts(store)
        (writer,) = (p for p, title in frozen if title.startswith("ray::_write"))
        # It takes up again with the five seconds of its sleep.
        writer.resume()
        named = set(FeatureStore(store).snapshot.shards)
        digests = {shard.sha256 for shard in FeatureStore(store).snapshot.shards.values()}
        wait_until(
            lambda: any(file_sha256(file) in digests for file in attempts(store)), "the straggler"
        )
        (late,) = attempts(store)
        assert late.name not in named
        assert_undisturbed(store, clip_features)

    options = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=SHARD_ITEMS)
    with monkeypatch.context() as patch:
        # There is nothing left to do, so nobody may do anything.
        patch.setattr(intertitle.pipeline.precompute.run, "Scheduler", None)
        report = precompute(Corpus(clips), store, options)
    assert (report.snapshot, report.skipped) == (FeatureStore(store).snapshot_id, NUM_CLIPS)

    collected = collect(as_path(store), extra_ids=(), dry_run=False)
    removed = {kind: pile.num_files for kind, pile in collected.removed.items() if pile.num_files}
    assert removed == {"attempts": 1}
    assert not attempts(store)
    assert_undisturbed(store, clip_features)
