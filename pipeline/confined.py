"""The process that decodes for `pipeline.sandbox`: for each request a child of its own.

    python -m pipeline.confined DESCRIPTOR

reads requests from a socket: the name of a folder with a request.json, and descriptors of files
that were fetched. The child keeps nothing but what `pipeline.confinement` leaves it, and leaves
state.json, result.json and frames.npy in the folder. Modules are imported once, before.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import failpoints
from pipeline.confinement import confine
from pipeline.corpus import Item
from pipeline.errors import one_line
from pipeline.limits import Limits
from pipeline.sampling import Sampling, parse_sampling
from pipeline.source import FileState, Source
from pipeline.work import DecodedItem, Rejection, decode_chunk, decode_source, rejected

# Of a child that ended with an error of Python: a defect of the program.
DEFECT = 70
# Files of one request; more than a chunk has.
MAX_FILES = 253

_PR_SET_PDEATHSIG = 1
_MESSAGE_BYTES = 4096


def serve(channel: socket.socket) -> None:
    """Run a child for each request, one after the other, until nobody asks any more.

    The process of each child is told when it begins, and its exit status when it has ended.
    """
    while True:
        name, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, MAX_FILES)
        if not name:
            return
        pid = os.fork()
        if pid == 0:
            channel.close()
            os._exit(_run(Path(os.fsdecode(name)), descriptors))
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(str(pid).encode())
        channel.send(str(os.waitpid(pid, 0)[1]).encode())


def die_with_parent() -> None:
    """Let this process end when the one that started it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _run(folder: Path, descriptors: Sequence[int]) -> int:
    die_with_parent()
    with (folder / "stderr").open("wb") as errors:
        os.dup2(errors.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    try:
        _answer(folder, json.loads((folder / "request.json").read_text()), descriptors)
    except MemoryError:
        return 1
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return DEFECT
    return 0


def _answer(folder: Path, request: dict[str, Any], descriptors: Sequence[int]) -> None:
    os.environ.update(request["environment"], TMPDIR=str(folder))
    os.chdir(request["current_folder"])
    limits = Limits(**request["limits"])
    sampling, size = parse_sampling(request["sampling"]), request["size"]
    sources = _sources(request["sources"], descriptors)
    # A test's faults leave notes.
    notes = [Path(os.environ[failpoints.ONCE])] if failpoints.ONCE in os.environ else []
    gaps = confine([Path(str(source.path)) for source in sources], [folder, *notes])
    (folder / "started").touch()
    if request["watched"]:
        # Whoever watches may stop doing so.
        faulthandler.dump_traceback_later(2 * limits.seconds, exit=True)
        item, frames = _decode_watched(sources[0], sampling, size, limits, folder)
        items = [item]
    else:
        items, frames = decode_chunk(sources, sampling, size, limits)
    np.save(folder / "frames.npy", frames, allow_pickle=False)
    result = {"gaps": gaps, "items": [_as_json(item) for item in items]}
    (folder / "result.json").write_text(json.dumps(result))


def _decode_watched(
    source: Source, sampling: Sampling, size: int, limits: Limits, folder: Path
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    """Decode an item, and leave the state of its file in the folder before that."""
    states: list[FileState] = []

    def keep(state: FileState) -> None:
        states.append(state)
        (folder / "state.json").write_text(json.dumps(asdict(state)))

    try:
        return decode_source(source, sampling, size, limits, keep)
    except MemoryError:
        # It asked for more at once than any machine has.
        line = one_line(f"{source.path}: decoding takes more memory than there is")
        rejection = Rejection("decode", "memory", line)
        item = rejected(source, rejection, states[-1] if states else None)
        return item, np.zeros((0, size, size, 3), np.uint8)


def _sources(wanted: Sequence[dict[str, Any]], descriptors: Sequence[int]) -> list[Source]:
    """Items by their own files, or by the descriptors of copies, in order."""
    copies = iter(descriptors)
    sources = []
    for one in wanted:
        source = Source(Item(**one["item"]), one["corpus"])
        if one["copy"]:
            copy = replace(source.item, uri=f"/proc/self/fd/{next(copies)}")
            source = Source(copy, "/", FileState(**one["copy"]))
        sources.append(source)
    return sources


def _as_json(item: DecodedItem) -> dict[str, Any]:
    return {
        "path": str(item.source.path),
        "state": item.state and asdict(item.state),
        "times_s": item.times_s.tolist(),
        "degraded": item.degraded,
        "rejection": item.rejection and asdict(item.rejection),
    }


if __name__ == "__main__":
    die_with_parent()
    # Ctrl-C in a terminal is meant for the command that decodes, which says what becomes of this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        serve(channel)
