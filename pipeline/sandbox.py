"""Decoding where it can do no harm: in processes that are watched, and that have nothing to lose.

Whatever an item does to its process, this one lives to say what it was. A process that has imported
all modules (`pipeline.confined`) is started once and makes a child for each request; the child has
no secret of this process' environment, and neither the network nor any file but its own.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import failpoints
from pipeline.confined import DEFECT
from pipeline.confinement import bare_environment
from pipeline.decode import DecodeError
from pipeline.errors import JobError, one_line
from pipeline.limits import Limits
from pipeline.location import is_local
from pipeline.sampling import Sampling
from pipeline.source import FileState, Source, opened
from pipeline.work import DecodedItem, Rejection, rejected, unforeseen

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.02
_TRIES = 3
# A machine that can't start Python in this time is at fault, not the item.
_START_S = 120.0
_MESSAGE_BYTES = 64
# It ends by itself where nobody asks any more; one that waits for its child is killed.
_END_S = 0.2

Decoded = tuple[list[DecodedItem], NDArray[np.uint8]]


def decode_confined(
    sources: Sequence[Source], sampling: Sampling, size: int, limits: Limits
) -> Decoded:
    """Decode items in one process; where it dies, each in a process of its own.

    Returns:
        As of `pipeline.work.decode_chunk`.

    Raises:
        OSError: no process could be started; the machine is at fault.
        RuntimeError: the process failed otherwise, which is a defect of the program.
    """
    try:
        return _request(sources, sampling, size, limits, watched=False)
    except _ChildError:
        parts = [examine(source, sampling, size, limits) for source in sources]
    none = np.zeros((0, size, size, 3), np.uint8)
    return [item for item, _ in parts], np.concatenate([none, *(frames for _, frames in parts)])


def examine(
    source: Source, sampling: Sampling, size: int, limits: Limits
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    """Decode an item in a process of its own, which is watched.

    An item that costs too much is rejected as "timeout" or "memory", one that crashes its process
    as "crashed". Where somebody else kills the process, again and again, it is "killed".

    Raises:
        OSError: no process could be started; the machine is at fault.
        RuntimeError: the process failed otherwise, which is a defect of the program.
    """
    for _ in range(_TRIES):
        try:
            (item,), frames = _request([source], sampling, size, limits, watched=True)
            return item, frames
        except _ChildError as error:
            end = error
        if end.error != "killed":
            break
    kind, what = end.error, end.what
    if kind == "timeout" and end.state is None:
        # It did not even come to decoding: a disk or a network hangs.
        kind, what = "unavailable", f"reading the file takes more than {limits.seconds:g} s"
    rejection = Rejection("decode", kind, one_line(f"{source.path}: {what}"))
    return rejected(source, rejection, end.state), np.zeros((0, size, size, 3), np.uint8)


class _ChildError(Exception):
    """The process of a request that ended before its time.

    Attributes:
        error: the class of failure.
        what: happened.
        state: of the file of a watched item, if it came so far as to read it.
    """

    def __init__(self, error: str, what: str, state: FileState | None = None) -> None:
        super().__init__(error, what)
        self.error, self.what, self.state = error, what, state


def _request(
    sources: Sequence[Source], sampling: Sampling, size: int, limits: Limits, watched: bool
) -> Decoded:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="intertitle-")))
        files = [_fetch(source, limits, stack) for source in sources]
        here = [file for file in files if isinstance(file, _File)]
        request = {
            "sources": [
                {
                    "item": asdict(file.source.item),
                    "corpus": file.source.corpus,
                    "copy": file.state and asdict(file.state),
                }
                for file in here
            ],
            "sampling": str(sampling),
            "size": size,
            "limits": asdict(limits),
            "watched": watched,
            "environment": failpoints.variables(),
            "current_folder": str(Path.cwd()),
        }
        (folder / "request.json").write_text(json.dumps(request))
        found: list[DecodedItem] = []
        frames = np.zeros((0, size, size, 3), np.uint8)
        if here:
            descriptors = [file.descriptor for file in here if file.descriptor is not None]
            seconds = limits.seconds * (1 if watched else 1 + len(here))
            memory_mb = limits.memory_mb if watched else None
            _SANDBOX.run(folder, descriptors, seconds, memory_mb)
            found, frames = _result([file.source for file in here], folder)
        decoded = iter(found)
        return [next(decoded) if isinstance(f, _File) else f for f in files], frames


@dataclass(frozen=True, slots=True)
class _File:
    """An item whose file is on this machine.

    Attributes:
        source: the item.
        descriptor: of a copy of a remote file; None of a local one, which is opened by its path.
        state: of the copy.
    """

    source: Source
    descriptor: int | None = None
    state: FileState | None = None


def _fetch(source: Source, limits: Limits, stack: ExitStack) -> _File | DecodedItem:
    """Get a remote file here, by what this process may do and its decoder may not."""
    try:
        if is_local(source.path):
            return _File(source)
    except DecodeError as error:
        return rejected(source, Rejection("decode", error.error, one_line(error.message)))
    # Its thread goes on where it takes too long; nothing waits for it.
    pool = ThreadPoolExecutor(1)
    fetching = pool.submit(stack.enter_context, opened(source))
    try:
        copy, state = fetching.result(limits.seconds)
    except TimeoutError:
        message = one_line(f"{source.path}: fetching takes more than {limits.seconds:g} s")
        rejection = Rejection("decode", "unavailable", message)
        return DecodedItem(source, None, np.zeros(0), None, rejection)
    except DecodeError as error:
        message = one_line(error.message)
        return rejected(source, Rejection("decode", error.error, message))
    except JobError:
        # It concerns every item.
        raise
    except Exception as error:
        return unforeseen(source, error)
    finally:
        pool.shutdown(wait=False)
    return _File(source, stack.enter_context(copy.open("rb")).fileno(), state)


class _Sandbox:
    """The process that makes a child for each request; started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._one_at_a_time = threading.Lock()

    def run(
        self, folder: Path, descriptors: Sequence[int], seconds: float, memory_mb: int | None
    ) -> None:
        """Run one request to its end.

        Args:
            folder: of the request.
            descriptors: of files for it.
            seconds: that it may take from its beginning on.
            memory_mb: that it may take more than it begins with, in MiB.

        Raises:
            _ChildError: its process did not end well.
            RuntimeError: it failed with an error of Python, or can't be started.
        """
        with self._one_at_a_time:
            channel = self._start()
            try:
                socket.send_fds(channel, [os.fsencode(folder)], list(descriptors))
                code = self._watch(channel, folder, seconds, memory_mb)
            except (_LostError, OSError) as error:
                code = self.stop()
                if code > 0:
                    # An error of Python, which is on this process' stderr.
                    raise RuntimeError(f"the process that decodes ended with {code}") from error
                raise _ChildError("killed", _KILLED) from error
        state = _state(folder / "state.json")
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            raise _ChildError("killed", _KILLED, state)
        if code < 0:
            died_of = signal.Signals(-code).name
            raise _ChildError("crashed", f"the decoder died of {died_of}", state)
        if code == DEFECT:
            raise RuntimeError((folder / "stderr").read_text("utf-8", "replace").strip())
        if code:
            raise _ChildError("crashed", f"the decoder ended with {code}", state)

    def stop(self) -> int:
        """End the process; none is left of it or of its child.

        Returns:
            Its exit code, or the number of the signal that ended it below zero; 0 without one.
        """
        code = 0
        if self._process is not None and self._channel is not None:
            self._channel.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._process.kill()
            code = self._process.wait()
        self._process = self._channel = None
        return code

    def _start(self) -> socket.socket:
        if self._channel is not None and self._process is not None:
            if self._process.poll() is None:
                return self._channel
            self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.confined", str(theirs.fileno())],
                env=bare_environment(os.environ),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._channel = ours
        return ours

    def _watch(
        self, channel: socket.socket, folder: Path, seconds: float, memory_mb: int | None
    ) -> int:
        """Wait for a child to end, or end it; its exit code, or a signal's number below zero."""
        pid, began = None, False
        deadline, memory = time.monotonic() + _START_S, sys.maxsize
        while True:
            if select.select([channel], [], [], _LOOK_S)[0]:
                told = channel.recv(_MESSAGE_BYTES)
                if not told:
                    raise _LostError
                if pid is not None:
                    return os.waitstatus_to_exitcode(int(told))
                pid = int(told)
            if pid is not None and not began and (folder / "started").exists():
                began, deadline = True, time.monotonic() + seconds
                if memory_mb is not None:
                    memory = _resident_bytes(pid) + memory_mb * 2**20
            if time.monotonic() > deadline:
                fate = ("timeout", f"decoding takes more than {seconds:g} s")
            elif pid is not None and _resident_bytes(pid) > memory:
                fate = ("memory", f"decoding takes more than {memory_mb} MiB")
            else:
                continue
            if pid is None or not began:
                self.stop()
                raise TimeoutError(f"a process took more than {_START_S:g} s to start")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            channel.recv(_MESSAGE_BYTES)
            raise _ChildError(*fate, _state(folder / "state.json"))


class _LostError(Exception):
    """The process that makes the children is gone."""


_KILLED = "something killed the decoder, such as a machine without memory"
_SANDBOX = _Sandbox()
atexit.register(_SANDBOX.stop)


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


_said_gaps = False


def _result(sources: Sequence[Source], folder: Path) -> Decoded:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    _say_gaps(found["gaps"])
    items = [_item(*pair) for pair in zip(sources, found["items"], strict=True)]
    return items, np.load(folder / "frames.npy", allow_pickle=False)


def _item(source: Source, found: dict[str, Any]) -> DecodedItem:
    rejection = Rejection(**found["rejection"]) if found["rejection"] else None
    if rejection:
        # What was fetched has another name there, which tells a person nothing.
        message = rejection.message.replace(one_line(found["path"]), one_line(str(source.path)))
        rejection = replace(rejection, message=message)
    return DecodedItem(
        source,
        FileState(**found["state"]) if found["state"] else None,
        np.array(found["times_s"], np.float64),
        found["degraded"],
        rejection,
    )


def _say_gaps(gaps: Sequence[str]) -> None:
    """Log, once, what this machine can't keep from decoders."""
    global _said_gaps
    if gaps and not _said_gaps:
        _said_gaps = True
        _LOG.warning("decoders are not kept from: %s", "; ".join(gaps))
