"""Decoding of untrusted files in isolated and monitored processes.

If an item crashes its decoder process, this process survives and reports the failure. A process
that has imported all modules (`decoder_process`) is started once and forks a child for each
request (`fork_server`); the child has no secrets of this process' environment, no network, and no
files but its own.
"""

from __future__ import annotations

import atexit
import json
import logging
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intertitle.pipeline.decoding.decode import DecodeError
from intertitle.pipeline.decoding.item_file import FileState, ItemFile, open_item_file
from intertitle.pipeline.decoding.limits import Limits
from intertitle.pipeline.decoding.sampling import Sampling
from intertitle.pipeline.errors import JobError, one_line
from intertitle.pipeline.precompute.isolation.fork_server import ChildError, ForkServers
from intertitle.pipeline.precompute.work import DecodedItem, Rejection, rejected, unforeseen
from intertitle.pipeline.storage import failpoints
from intertitle.pipeline.storage.paths import is_local

_LOG = logging.getLogger(__name__)
_TRIES = 3
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
    except ChildError:
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
        except ChildError as error:
            end = error
        if end.error != "killed":
            break
    kind, message = end.error, end.message
    if kind == "timeout" and end.state is None:
        # The process hung before decoding started, so a disk or the network is at fault.
        kind, message = "unavailable", f"reading the file takes more than {limits.seconds:g} s"
    rejection = Rejection("decode", kind, one_line(f"{source.name}: {message}"))
    return rejected(source, rejection, end.state), np.zeros((0, size, size, 3), np.uint8)


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
            with _SERVERS.take() as server:
                server.run(folder, descriptors, seconds, memory_mb)
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
    """Copy a remote file or a member of a larger file in this process.

    The decoder process has no network, and sees the bytes of its items alone.
    """
    try:
        if is_local(source.path) and source.member is None:
            return _File(source)
    except DecodeError as error:
        return rejected(source, Rejection("decode", error.error, one_line(error.message)))
    # A download that takes too long continues in its thread; nothing waits for it.
    fetching = _open_in_background(source, limits, stack)
    try:
        copy, state = fetching.result(limits.seconds)
    except TimeoutError:
        message = one_line(f"{source.name}: fetching takes more than {limits.seconds:g} s")
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


def _open_in_background(
    source: ItemFile, limits: Limits, stack: ExitStack
) -> Future[tuple[Path, FileState]]:
    """Open a file that has to be copied in a thread that does not keep Python from exiting.

    Python waits at its exit for the threads of an executor, but not for daemon threads.
    """
    future: Future[tuple[Path, FileState]] = Future()

    def run() -> None:
        try:
            future.set_result(stack.enter_context(open_item_file(source, limits)))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


_SERVERS = ForkServers()
atexit.register(_SERVERS.stop)
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
        message = rejection.message.replace(one_line(result["path"]), one_line(source.name))
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
