"""Decoding of untrusted files in isolated and monitored processes.

If an item crashes its decoder process, this process survives and reports the failure. A process
that has imported all modules (`decoder_process`) is started once and forks a child for each
request; the child has no secrets of this process' environment, no network, and no files but its
own.
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
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline import failpoints
from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import FileState, ItemFile, open_item_file
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Sampling
from intertitle.pipeline.errors import JobError, one_line
from intertitle.pipeline.precompute.isolation.confinement import bare_environment
from intertitle.pipeline.precompute.isolation.decoder_process import DEFECT, MACHINE
from intertitle.pipeline.precompute.work import DecodedItem, Rejection, rejected, unforeseen
from intertitle.pipeline.storage.paths import is_local

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.02
_TRIES = 3
# Time limit for the start of a decoder process; when it is exceeded, the machine is at fault, not
# the item.
_START_S = 120.0
_MESSAGE_BYTES = 64
# Time that the decoder process gets to end by itself when its channel is closed; a process that
# still waits for its child is then killed.
_END_S = 0.2
# Time that a killed process gets to end; one that waits for a disk or the network may take longer,
# and is left to the kernel.
_KILL_S = 10.0

Decoded = tuple[list[DecodedItem], NDArray[np.uint8]]


def decode_confined(
    sources: Sequence[ItemFile], sampling: Sampling, size: int, limits: Limits
) -> Decoded:
    """Decode items in one process; if the process dies, decode each in a process of its own.

    Returns:
        The same as `precompute.work.decode_chunk`.

    Raises:
        OSError: the machine is at fault: no process could be started, or a disk is full.
        RuntimeError: the process failed otherwise, which is a defect of the program.
    """
    try:
        return _request(sources, sampling, size, limits, watched=False)
    except _ChildError:
        parts = [decode_isolated(source, sampling, size, limits) for source in sources]
    no_frames = np.zeros((0, size, size, 3), np.uint8)
    return [item for item, _ in parts], np.concatenate(
        [no_frames, *(frames for _, frames in parts)]
    )


def decode_isolated(
    source: ItemFile, sampling: Sampling, size: int, limits: Limits
) -> tuple[DecodedItem, NDArray[np.uint8]]:
    """Decode an item in a process of its own, which is monitored.

    An item that exceeds a limit is rejected as "timeout" or "memory", and an item that crashes its
    process as "crashed". If something else kills the process repeatedly, the item is rejected as
    "killed".

    Raises:
        OSError: the machine is at fault: no process could be started, or a disk is full.
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
    kind, message = end.error, end.message
    if kind == "timeout" and end.state is None:
        # The process hung before decoding started, so a disk or the network is at fault.
        kind, message = "unavailable", f"reading the file takes more than {limits.seconds:g} s"
    rejection = Rejection("decode", kind, one_line(f"{source.path}: {message}"))
    return rejected(source, rejection, end.state), np.zeros((0, size, size, 3), np.uint8)


class _ChildError(Exception):
    """Error of a decoder process that ended before it finished its request.

    Attributes:
        error: class of the failure.
        message: description of the failure.
        state: state of a monitored item's file, or None if it was not read yet.
    """

    def __init__(self, error: str, message: str, state: FileState | None = None) -> None:
        super().__init__(error, message)
        self.error, self.message, self.state = error, message, state


def _request(
    sources: Sequence[ItemFile], sampling: Sampling, size: int, limits: Limits, watched: bool
) -> Decoded:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="intertitle-")))
        files = [_fetch(source, limits, stack) for source in sources]
        local_files = [file for file in files if isinstance(file, _File)]
        request = {
            "sources": [
                {
                    "item": asdict(file.source.item),
                    "corpus": file.source.corpus,
                    "copy": file.state and asdict(file.state),
                }
                for file in local_files
            ],
            "sampling": str(sampling),
            "size": size,
            "limits": asdict(limits),
            "watched": watched,
            "environment": failpoints.variables(),
            "current_folder": str(Path.cwd()),
        }
        (folder / "request.json").write_text(json.dumps(request))
        items: list[DecodedItem] = []
        frames = np.zeros((0, size, size, 3), np.uint8)
        if local_files:
            descriptors = [file.descriptor for file in local_files if file.descriptor is not None]
            seconds = limits.seconds * (1 if watched else 1 + len(local_files))
            memory_mb = limits.memory_mb if watched else None
            _SANDBOX.run(folder, descriptors, seconds, memory_mb)
            items, frames = _result([file.source for file in local_files], folder)
        decoded = iter(items)
        return [next(decoded) if isinstance(f, _File) else f for f in files], frames


@dataclass(frozen=True, slots=True)
class _File:
    """An item whose file is on this machine.

    Attributes:
        source: item to decode.
        descriptor: file descriptor of the copy of a remote file; None for a local file, which is
            opened by its path.
        state: state of the copy; None for a local file.
    """

    source: ItemFile
    descriptor: int | None = None
    state: FileState | None = None


def _fetch(source: ItemFile, limits: Limits, stack: ExitStack) -> _File | DecodedItem:
    """Download a remote file in this process, because the decoder process has no network."""
    try:
        if is_local(source.path):
            return _File(source)
    except DecodeError as error:
        return rejected(source, Rejection("decode", error.error, one_line(error.message)))
    # A download that takes too long continues in its thread; nothing waits for it.
    fetching = _open_in_background(source, stack)
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
        # The error concerns every item.
        raise
    except Exception as error:
        return unforeseen(source, error)
    return _File(source, stack.enter_context(copy.open("rb")).fileno(), state)


def _open_in_background(source: ItemFile, stack: ExitStack) -> Future[tuple[Path, FileState]]:
    """Open a remote file in a thread that does not keep Python from exiting.

    Python waits at its exit for the threads of an executor, but not for daemon threads.
    """
    future: Future[tuple[Path, FileState]] = Future()

    def run() -> None:
        try:
            future.set_result(stack.enter_context(open_item_file(source)))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


class _Sandbox:
    """The decoder process, which forks a child for each request; started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._one_at_a_time = threading.Lock()

    def run(
        self, folder: Path, descriptors: Sequence[int], seconds: float, memory_mb: int | None
    ) -> None:
        """Run one request and wait for its end.

        Args:
            folder: folder of the request.
            descriptors: file descriptors of the downloaded files.
            seconds: time limit in seconds, counted from the start of decoding.
            memory_mb: limit on the memory that decoding adds, in MiB; None sets no limit.

        Raises:
            _ChildError: the process of the request crashed, was killed or exceeded a limit.
            OSError: the machine is at fault, for example because a disk is full.
            RuntimeError: the process failed with a Python exception, or cannot be started.
        """
        with self._one_at_a_time:
            channel = self._start()
            try:
                socket.send_fds(channel, [os.fsencode(folder)], list(descriptors))
                code = self._watch(channel, folder, seconds, memory_mb)
            except TimeoutError:
                # The process did not start in time; `_watch` has stopped it.
                raise
            except (_LostError, OSError) as error:
                code = self.stop()
                if code == MACHINE:
                    # The error is on this process' stderr.
                    raise OSError("the process that decodes could not start another") from error
                if code > 0:
                    # A Python exception, whose traceback is on this process' stderr.
                    raise RuntimeError(f"the process that decodes ended with {code}") from error
                raise _ChildError("killed", _KILLED) from error
        state = _state(folder / "state.json")
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            raise _ChildError("killed", _KILLED, state)
        if code < 0:
            signal_name = signal.Signals(-code).name
            raise _ChildError("crashed", f"the decoder died of {signal_name}", state)
        if code == MACHINE:
            raise OSError(_last_line(folder / "stderr"))
        if code == DEFECT:
            raise RuntimeError((folder / "stderr").read_text("utf-8", "replace").strip())
        if code:
            raise _ChildError("crashed", f"the decoder ended with {code}", state)

    def stop(self) -> int:
        """End the decoder process and its child.

        Returns:
            The exit code, or the negated number of the signal that ended the process; 0 if no
            process was running.
        """
        code = 0
        if self._process is not None and self._channel is not None:
            self._channel.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            self._process.kill()
            try:
                code = self._process.wait(_KILL_S)
            except subprocess.TimeoutExpired:
                code = -signal.SIGKILL
        self._process = self._channel = None
        return code

    def _start(self) -> socket.socket:
        if self._channel is not None and self._process is not None:
            if self._process.poll() is None:
                return self._channel
            self.stop()
        parent_end, child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with child_end:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "intertitle.pipeline.precompute.isolation.decoder_process",
                    str(child_end.fileno()),
                ],
                env=bare_environment(os.environ),
                stdin=subprocess.DEVNULL,
                pass_fds=[child_end.fileno()],
            )
        self._channel = parent_end
        return parent_end

    def _watch(
        self, channel: socket.socket, folder: Path, seconds: float, memory_mb: int | None
    ) -> int:
        """Wait for a child to end, and kill it if it exceeds a limit.

        Returns:
            The exit code, or the negated number of the signal that ended the child.
        """
        pid, started = None, False
        deadline, memory = time.monotonic() + _START_S, sys.maxsize
        while True:
            if select.select([channel], [], [], _LOOK_S)[0]:
                message = channel.recv(_MESSAGE_BYTES)
                if not message:
                    raise _LostError
                if pid is not None:
                    return os.waitstatus_to_exitcode(int(message))
                pid = int(message)
            if pid is not None and not started and (folder / "started").exists():
                started, deadline = True, time.monotonic() + seconds
                if memory_mb is not None:
                    memory = _resident_bytes(pid) + memory_mb * 2**20
            if time.monotonic() > deadline:
                failure = ("timeout", f"decoding takes more than {seconds:g} s")
            elif pid is not None and _resident_bytes(pid) > memory:
                failure = ("memory", f"decoding takes more than {memory_mb} MiB")
            else:
                continue
            if pid is None or not started:
                self.stop()
                raise TimeoutError(f"a process took more than {_START_S:g} s to start")
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if select.select([channel], [], [], _KILL_S)[0]:
                channel.recv(_MESSAGE_BYTES)
            else:
                self.stop()
            raise _ChildError(*failure, _state(folder / "state.json"))


class _LostError(Exception):
    """The decoder process has ended."""


_KILLED = "something killed the decoder, such as a machine without memory"
_SANDBOX = _Sandbox()
atexit.register(_SANDBOX.stop)


def _state(file: Path) -> FileState | None:
    """Return the state of the item's file, or None if its process did not read it."""
    return FileState(**json.loads(file.read_text())) if file.exists() else None


def _last_line(file: Path) -> str:
    """Return the last line of a traceback, which a full disk may have cut off."""
    lines = file.read_text("utf-8", "replace").split("\n") if file.exists() else []
    return next((line for line in reversed(lines) if line), "a disk may be full")


def _resident_bytes(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        # The process has just ended.
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


_said_gaps = False


def _result(sources: Sequence[ItemFile], folder: Path) -> Decoded:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    _say_gaps(result["gaps"])
    items = [_item(*pair) for pair in zip(sources, result["items"], strict=True)]
    return items, np.load(folder / "frames.npy", allow_pickle=False)


def _item(source: ItemFile, result: dict[str, Any]) -> DecodedItem:
    rejection = Rejection(**result["rejection"]) if result["rejection"] else None
    if rejection:
        # The decoder process knows a downloaded file by a meaningless name, so messages get the
        # original one.
        message = rejection.message.replace(one_line(result["path"]), one_line(str(source.path)))
        rejection = replace(rejection, message=message)
    return DecodedItem(
        source,
        FileState(**result["state"]) if result["state"] else None,
        np.array(result["times_s"], np.float64),
        result["degraded"],
        rejection,
    )


def _say_gaps(gaps: Sequence[str]) -> None:
    """Log, once, the restrictions that this machine cannot enforce on decoders."""
    global _said_gaps
    if gaps and not _said_gaps:
        _said_gaps = True
        _LOG.warning("decoders are not kept from: %s", "; ".join(gaps))
