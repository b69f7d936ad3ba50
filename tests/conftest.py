"""What several tests share: one Ray, one export of the network, one small corpus, its features."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

import intertitle
from tests.jobs.program import NICENESS
from tests.ports import free_ports

# Ray gives its workers a niceness of 15, with which they get 3 % of a core beside another process.
os.environ[NICENESS] = "0"
# Ray reads how it authenticates when it is imported: so before any test imports Ray.
intertitle.init()

# A shared machine is slow at times, and a test that fails must fail again.
settings.register_profile("intertitle", deadline=None, derandomize=True)
settings.load_profile("intertitle")

NUM_CLIPS = 24
# The files that take longest come first: one process would wait for the other at the end of them.
LONGEST = (
    "pipeline/precompute/test_run.py",
    "training/test_faults.py",
    "test_contributing.py",
    "jobs/retraining/test_story.py",
    "training/trainer/workers/test_ray_trainer.py",
    "test_plugins.py",
    "jobs/commands/test_serve.py",
    "jobs/commands/test_submit.py",
    "test_documents.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by their files."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    assert all(path.exists() for path in ranks)
    items.sort(key=lambda item: ranks.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def onnx_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty cache folder, not the user's: the network is exported into it, once a session."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield cache


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server that speaks S3, with an empty bucket named "bucket"; the folder it serves."""
    served = tmp_path_factory.mktemp("object store")
    (served / "bucket").mkdir()
    server, address = serve(served)
    environment = {
        "AWS_ENDPOINT_URL": f"http://{address}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield served
    server.kill()
    server.wait()


def serve(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start the server; it and its address."""
    host, (port,) = "127.0.0.1", free_ports(1)
    server = subprocess.Popen(
        [
            Path(sysconfig.get_path("scripts")) / "rclone",
            *("serve", "s3", "--addr", f"{host}:{port}", "--auth-key", "key,not-a-secret"),
            folder,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((host, port)):
            return server, f"{host}:{port}"
        time.sleep(0.05)
    server.kill()
    raise RuntimeError("rclone does not start")


@pytest.fixture(scope="session")
def ray_cluster(onnx_cache: Path, object_store: Path) -> Iterator[None]:
    """Ray on two cores and no GPU, whatever the machine has; it takes five seconds to start."""
    from intertitle.jobs.cluster.session import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"CPU": 2, "GPU": 0}')
        # Ray Train looks after its workers every two seconds, and for a node that the cloud is
        # about to take away in a process of its own; a test need not wait for either.
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        with cluster(None):
            yield


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of drawn clips; a test that changes it takes a copy."""
    from intertitle.pipeline.importers.synthetic import render_corpus

    out = tmp_path_factory.mktemp("clips")
    render_corpus(out, num_clips=NUM_CLIPS, seed=1, num_processes=1)
    return out


@pytest.fixture(scope="session")
def clip_features(clips: Path, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the clips' features, eight frames each, made by one worker in three shards."""
    from intertitle.pipeline.corpus import Corpus
    from intertitle.pipeline.decoding.sampling import Uniform
    from intertitle.pipeline.precompute.options import PrecomputeOptions
    from intertitle.pipeline.precompute.run import precompute

    store = tmp_path_factory.mktemp("clip features")
    options = PrecomputeOptions("efficientnet_lite0", Uniform(8), shard_items=10, workers=1)
    precompute(Corpus(clips), store, options)
    return store


@pytest.fixture
def trains_in_process() -> Iterator[None]:
    """Trainings of one worker are in this process, not on Ray."""
    from tests.training.in_process import in_process

    with in_process():
        yield


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def intertitle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Run the command line in this process."""
    from intertitle.jobs.cli import main

    # On a busy machine a step is named that is too short for it on another.
    monkeypatch.setattr("intertitle.jobs.console.SHORT_S", 3600.0)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["intertitle", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main()
        code = exit.value.code
        return Ended(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run
