"""Decoder process of `precompute.isolation.sandbox`, which forks a child for each request.

    python -m intertitle.pipeline.precompute.isolation.decoder_process DESCRIPTOR

reads requests from a socket: the name of a folder with a request.json, and descriptors of files
that were downloaded. The child is restricted by `confinement`, and writes state.json, result.json
and frames.npy to the folder. Modules are imported once, before the first fork.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.corpus import Item
from intertitle.pipeline.decoding.item_file import FileState, ItemFile
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Sampling, parse_sampling
from intertitle.pipeline.errors import one_line
from intertitle.pipeline.precompute.isolation.confinement import confine
from intertitle.pipeline.precompute.isolation.fork_server import DEFECT, MACHINE
from intertitle.pipeline.precompute.work import (
    DecodedItem,
    Rejection,
    decode_chunk,
    decode_source,
    rejected,
)
from intertitle.pipeline.storage import failpoints
from intertitle.pipeline.storage.faults import is_machine_fault

# Maximum number of files in one request; a chunk has fewer.
MAX_FILES = 253

_PR_SET_PDEATHSIG = 1
_MESSAGE_BYTES = 4096


def serve(channel: socket.socket) -> None:
    """Run a child process for each request, one after the other, until the channel is closed.

    The process id of a child is sent to the channel when it starts, and its exit status when it has
    ended.
    """
    while True:
        name, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, MAX_FILES)
        if not name:
            return
        try:
            pid = os.fork()
        except OSError:
            # The machine has too many processes or too little memory. Ending the interpreter
            # would take longer than the parent waits for the exit status.
            _print_exception()
            os._exit(MACHINE)
        if pid == 0:
            channel.close()
            # Whatever is raised, the child does not go on with the work of its parent.
            status = DEFECT
            try:
                status = _run(Path(os.fsdecode(name)), descriptors)
            finally:
                if sys.exception() is not None:
                    _print_exception()
                os._exit(status)
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            channel.send(str(pid).encode())
            if not _wait_for_end(channel, pid):
                return
            channel.send(str(os.waitpid(pid, 0)[1]).encode())
        except ConnectionError:
            # The parent has ended; the kernel kills the child when this process ends.
            return


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent process ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait_for_end(channel: socket.socket, pid: int) -> bool:
    """Wait until a child has ended (True) or the channel is closed (False)."""
    try:
        child = os.pidfd_open(pid)
    except OSError:
        # Linux before 5.3: the child is waited for, even if the channel is closed.
        return True
    try:
        return child in select.select([channel.fileno(), child], [], [])[0]
    finally:
        os.close(child)


def _print_exception() -> None:
    # The disk may be full.
    with suppress(OSError):
        traceback.print_exc()
        sys.stderr.flush()


def _run(folder: Path, descriptors: Sequence[int]) -> int:
    die_with_parent()
    try:
        with (folder / "stderr").open("wb") as errors:
            os.dup2(errors.fileno(), 1)
            os.dup2(errors.fileno(), 2)
        _answer(folder, json.loads((folder / "request.json").read_text()), descriptors)
    except MemoryError:
        return 1
    except OSError as error:
        _print_exception()
        # NumPy raises an error without a number when a full disk takes only a part of an array.
        return MACHINE if error.errno is None or is_machine_fault(error) else DEFECT
    return 0


def _answer(folder: Path, request: dict[str, Any], descriptors: Sequence[int]) -> None:
    os.environ.update(request["environment"], TMPDIR=str(folder))
    os.chdir(request["current_folder"])
    limits = Limits(**request["limits"])
    sampling, size = parse_sampling(request["sampling"]), request["size"]
    sources = _sources(request["sources"], descriptors)
    # The failpoints of tests write marker files.
    notes = [Path(os.environ[failpoints.ONCE])] if failpoints.ONCE in os.environ else []
    gaps = confine([Path(str(source.path)) for source in sources], [folder, *notes])
    (folder / "started").touch()
    if request["watched"]:
        # Ends this process if the parent fails to enforce the time limit.
        faulthandler.dump_traceback_later(2 * limits.seconds, exit=True)
        item, frames = _decode_watched(sources[0], sampling, size, limits, folder)
        items = [item]
    else:
        items, frames = decode_chunk(sources, sampling, size, limits)
    np.save(folder / "frames.npy", frames, allow_pickle=False)
    result = {"gaps": gaps, "items": [_as_json(item) for item in items]}
    (folder / "result.json").write_text(json.dumps(result))


def _decode_watched(
    source: ItemFile, sampling: Sampling, size: int, limits: Limits, folder: Path
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    """Decode an item, and write the state of its file to the folder before decoding."""
    states: list[FileState] = []

    def write_state(state: FileState) -> None:
        """Write the state of the file to the folder."""
        states.append(state)
        # The file is complete under its name, even if this process is killed while it writes.
        unfinished = folder / "state.json.writing"
        unfinished.write_text(json.dumps(asdict(state)))
        unfinished.replace(folder / "state.json")

    try:
        return decode_source(source, sampling, size, limits, write_state)
    except MemoryError:
        # A single allocation exceeded the memory of the machine.
        line = one_line(f"{source.name}: decoding takes more memory than there is")
        rejection = Rejection("decode", "memory", line)
        item = rejected(source, rejection, states[-1] if states else None)
        return item, np.zeros((0, size, size, 3), np.uint8)


def _sources(requests: Sequence[dict[str, Any]], descriptors: Sequence[int]) -> list[ItemFile]:
    """Return the requested items in order; a downloaded copy is opened by its descriptor."""
    copies = iter(descriptors)
    sources = []
    for request in requests:
        source = ItemFile(Item(**request["item"]), request["corpus"])
        if request["copy"]:
            copy = replace(source.item, uri=f"/proc/self/fd/{next(copies)}")
            source = ItemFile(copy, "/", FileState(**request["copy"]))
        sources.append(source)
    return sources


def _as_json(item: DecodedItem) -> dict[str, Any]:
    return {
        "path": item.source.name,
        "state": item.state and asdict(item.state),
        "times_s": item.times_s.tolist(),
        "degraded": item.degraded,
        "rejection": item.rejection and asdict(item.rejection),
    }


if __name__ == "__main__":
    # This process ends when its channel is closed. `die_with_parent` would end it with the thread
    # that started it.
    # Ctrl-C in a terminal is meant for the parent command, which ends this process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        serve(channel)
