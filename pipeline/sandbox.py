"""A process of its own for an item that may have ended one: time and memory are watched from
outside.

    python -m pipeline.sandbox FOLDER

reads FOLDER/request.json and leaves state.json, result.json and frames.npy there. Whatever the item
does to that process, the one that started it lives to say what it was.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus import Item
from pipeline.errors import one_line
from pipeline.limits import Limits
from pipeline.sampling import Sampling, parse_sampling
from pipeline.source import FileState, Source
from pipeline.work import DecodedItem, Rejection, decode_source, rejected

_LOOK_S = 0.02
_TRIES = 3
_PR_SET_PDEATHSIG = 1
# A machine that can't start Python in this time is at fault, not the item.
_START_S = 120.0


def examine(
    source: Source, sampling: Sampling, size: int, limits: Limits
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    """What `decode_source` does, where it can do no harm.

    An item that costs too much is rejected as "timeout" or "memory", one that crashes its process
    as "crashed". Where somebody else kills the process, again and again, it is "killed".

    Raises:
        OSError: no process could be started; the machine is at fault.
        RuntimeError: the process failed otherwise, which is a defect of the program.
    """
    for _ in range(_TRIES):
        item, frames = _examine_once(source, sampling, size, limits)
        if item.rejection is None or item.rejection.error != "killed":
            break
    return item, frames


def _examine_once(
    source: Source, sampling: Sampling, size: int, limits: Limits
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    with tempfile.TemporaryDirectory(prefix="intertitle-") as name:
        folder = Path(name)
        request = {
            "item": asdict(source.item),
            "corpus": source.corpus,
            "sampling": str(sampling),
            "size": size,
            "limits": asdict(limits),
        }
        (folder / "request.json").write_text(json.dumps(request))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": name}
        command = [sys.executable, "-m", "pipeline.sandbox", name]
        with (
            (folder / "stderr").open("wb") as errors,
            subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            ) as child,
        ):
            try:
                fate = _watch(child, folder, limits)
            finally:
                child.kill()
        if fate is not None:
            error, what = fate
            rejection = Rejection("decode", error, one_line(f"{source.path}: {what}"))
            state = _state(folder / "state.json")
            if error == "timeout" and state is None:
                # It did not even come to decoding: a disk or a network hangs.
                what = f"reading the file takes more than {limits.seconds:g} s"
                rejection = Rejection("decode", "unavailable", one_line(f"{source.path}: {what}"))
            return rejected(source, rejection, state), np.zeros((0, size, size, 3), np.uint8)
        if child.returncode:
            raise RuntimeError((folder / "stderr").read_text("utf-8", "replace").strip())
        return _result(source, folder)


def _watch(child: subprocess.Popen[bytes], folder: Path, limits: Limits) -> tuple[str, str] | None:
    """Wait for the process to end, or end it: (class, message), or None if it went well."""
    began, deadline, memory = False, time.monotonic() + _START_S, sys.maxsize
    while child.poll() is None:
        if not began and (folder / "started").exists():
            began, deadline = True, time.monotonic() + limits.seconds
            memory = _resident_bytes(child.pid) + limits.memory_mb * 2**20
        if time.monotonic() > deadline:
            if not began:
                raise TimeoutError(f"a process took more than {_START_S:g} s to start")
            return "timeout", f"decoding takes more than {limits.seconds:g} s"
        if _resident_bytes(child.pid) > memory:
            return "memory", f"decoding takes more than {limits.memory_mb} MiB"
        time.sleep(_LOOK_S)
    if child.returncode in (-signal.SIGKILL, -signal.SIGTERM):
        return "killed", "something killed the decoder, such as a machine without memory"
    if child.returncode < 0:
        return "crashed", f"the decoder died of {signal.Signals(-child.returncode).name}"
    return None


def _state(file: Path) -> FileState | None:
    """Of the item's file, if its process came so far as to read it."""
    return FileState(**json.loads(file.read_text())) if file.exists() else None


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        # It has just ended.
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _result(source: Source, folder: Path) -> tuple[DecodedItem, NDArray[np.uint8]]:
    found = json.loads((folder / "result.json").read_text())
    item = DecodedItem(
        source,
        FileState(**found["state"]) if found["state"] else None,
        np.array(found["times_s"], np.float64),
        found["degraded"],
        Rejection(**found["rejection"]) if found["rejection"] else None,
    )
    return item, np.load(folder / "frames.npy", allow_pickle=False)


def main(folder: Path) -> None:
    """What the process does."""
    request = json.loads((folder / "request.json").read_text())
    source = Source(Item(**request["item"]), request["corpus"])
    limits = Limits(**request["limits"])
    # Whoever watches may die; this process must not outlive that.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    faulthandler.dump_traceback_later(2 * limits.seconds + _START_S, exit=True)
    (folder / "started").touch()

    def tell_state(state: FileState) -> None:
        (folder / "state.json").write_text(json.dumps(asdict(state)))

    sampling, size = parse_sampling(request["sampling"]), request["size"]
    try:
        item, pixels = decode_source(source, sampling, size, limits, tell_state)
    except MemoryError:
        # It asked for more at once than any machine has.
        line = one_line(f"{source.path}: decoding takes more memory than there is")
        item = rejected(source, Rejection("decode", "memory", line), _state(folder / "state.json"))
        pixels = np.zeros((0, size, size, 3), np.uint8)
    np.save(folder / "frames.npy", pixels, allow_pickle=False)
    result = {
        "state": asdict(item.state) if item.state else None,
        "times_s": item.times_s.tolist(),
        "degraded": item.degraded,
        "rejection": asdict(item.rejection) if item.rejection else None,
    }
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
