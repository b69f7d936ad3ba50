"""The decoder process, which forks a child for each request, and the watch over its children.

A child that crashes, is killed or exceeds a limit costs its request; the process that asked
survives and learns which it was.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from intertitle.pipeline.decoding.item_file import FileState

# Exit status of a child that ended with a Python exception, which is a defect of the program.
DEFECT = 70
# Exit status of a process that a fault of the machine ended, such as a full disk.
MACHINE = 71
_LOOK_S = 0.02
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
_KILLED = "something killed the decoder, such as a machine without memory"

# Environment variables that a decoder keeps: the paths of Python and its libraries, and the locale.
_KEPT_VARIABLES = frozenset(
    {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LD_PRELOAD", "TZ"}
)
_OTHER_VARIABLES = {
    # Ray or the caller decodes many files in parallel, and a process with one thread forks safely.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONDONTWRITEBYTECODE": "1",
}


class ChildError(Exception):
    """Error of a decoder process that ended before it finished its request.

    Attributes:
        error: class of the failure.
        message: description of the failure.
        state: state of a monitored item's file, or None if it was not read yet.
    """

    def __init__(self, error: str, message: str, state: FileState | None = None) -> None:
        super().__init__(error, message)
        self.error, self.message, self.state = error, message, state


class _LostError(Exception):
    """The decoder process has ended."""


class ForkServer:
    """A decoder process, which forks a child for each request; started when it is needed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

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
            ChildError: the process of the request crashed, was killed or exceeded a limit.
            OSError: the machine is at fault, for example because a disk is full.
            RuntimeError: the process failed with a Python exception, or cannot be started.
        """
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
            raise ChildError("killed", _KILLED) from error
        state = _state(folder / "state.json")
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            raise ChildError("killed", _KILLED, state)
        if code < 0:
            signal_name = signal.Signals(-code).name
            raise ChildError("crashed", f"the decoder died of {signal_name}", state)
        if code == MACHINE:
            raise OSError(_last_line(folder / "stderr"))
        if code == DEFECT:
            raise RuntimeError((folder / "stderr").read_text("utf-8", "replace").strip())
        if code:
            raise ChildError("crashed", f"the decoder ended with {code}", state)

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
            raise ChildError(*failure, _state(folder / "state.json"))


class ForkServers:
    """The decoder processes: one for each thread that decodes at the same time."""

    def __init__(self) -> None:
        self._idle: list[ForkServer] = []

    @contextmanager
    def take(self) -> Iterator[ForkServer]:
        """Reserve a decoder process for this thread within a `with` block."""
        try:
            server = self._idle.pop()
        except IndexError:
            server = ForkServer()
        try:
            yield server
        finally:
            self._idle.append(server)

    def stop(self) -> None:
        """End the decoder processes that no thread uses."""
        while self._idle:
            self._idle.pop().stop()


def bare_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a decoder process, without passwords, keys or addresses."""
    inherited = {name: value for name, value in environment.items() if name in _KEPT_VARIABLES}
    # The decoder process imports modules from the same folders as this process.
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    return {**inherited, **_OTHER_VARIABLES, "PYTHONPATH": paths}


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
