"""The process that forks decoders: its start, its faults and its end."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Uniform
from intertitle.pipeline.precompute.isolation import decoder_process, fork_server
from intertitle.pipeline.precompute.isolation.sandbox import decode_isolated
from intertitle.pipeline.storage.failpoints import ONCE, VARIABLE
from tests.pipeline.precompute.isolation.conftest import FILM, LIMITS, SOURCE


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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(fork_server, "_START_S", 0)
    with pytest.raises(TimeoutError, match="to start"):
        decode_isolated(SOURCE, Uniform(4), 64, LIMITS)


def test_a_thread_whose_file_hangs_does_not_hold_up_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@slow=hang")
    monkeypatch.setenv(ONCE, str(tmp_path))
    slow = replace(SOURCE, item=replace(SOURCE.item, key="slow"))
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(decode_isolated, slow, Uniform(4), 64, Limits(seconds=500))
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert list(tmp_path.iterdir()) and not hanging.done()
        item, _ = decode_isolated(SOURCE, Uniform(4), 64, LIMITS)
        assert item.rejection is None and not hanging.done()
        for server in psutil.Process().children():
            if decoder_process.__name__ in server.cmdline():
                for child in server.children():
                    child.send_signal(signal.SIGSEGV)
        rejection = hanging.result()[0].rejection
    assert rejection is not None and rejection.error == "crashed"


@pytest.mark.usefixtures("fresh_sandbox")
def test_a_process_that_cannot_be_killed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "decode@bikes=hang")
    monkeypatch.setattr(fork_server, "_KILL_S", 2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda *_: None)
        item, _ = decode_isolated(SOURCE, Uniform(4), 64, Limits(seconds=1))
    assert item.rejection is not None and item.rejection.error == "timeout"


PARENT = f"""
import subprocess, threading
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
process = sandbox._SERVERS._idle[0]._process
try:
    process.wait(0.5)
except subprocess.TimeoutExpired:
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


def test_a_state_that_is_half_written_is_not_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write_half(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", write_half)
    item, _ = decoder_process._decode_watched(SOURCE, Uniform(4), 64, LIMITS, tmp_path)
    assert item.rejection is not None and item.rejection.error == "unavailable"
    assert fork_server._state(tmp_path / "state.json") is None
