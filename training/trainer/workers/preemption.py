"""Stop a training on a signal: the driver handles it and sets a flag that the workers watch.

The flag is a Ray actor. Its process imports this module, which therefore must not import PyTorch.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import ray

from intertitle.pipeline.errors import SIGINT_EXIT_CODE, SIGTERM_EXIT_CODE, Stopped

# Time that the workers have after SIGTERM to write a checkpoint. Most schedulers send SIGKILL after
# 30 s.
GRACE_S = 25.0
# Time of one call that waits for the flag. On SIGTERM, Ray lets a worker end only when none of the
# calls that it made is pending.
_WAIT_S = 2.0


@contextmanager
def stop_on_signal(request_stop: Callable[[], object]) -> Iterator[threading.Event]:
    """Call `request_stop` on the first SIGTERM; raise `Stopped` if the training must end at once.

    `Stopped` is raised on a second SIGTERM, `GRACE_S` after the first one, and on Ctrl-C. On Ctrl-C
    Ray would exit with code 0, and it keeps its signal handler installed afterwards; a `Stopped`
    that is raised inside of Ray's code arrives here as a KeyboardInterrupt.

    Args:
        request_stop: function that requests the workers to stop.

    Yields:
        An event that is set once the workers were requested to stop.
    """
    stop_requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop_requested
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Stopped(SIGTERM_EXIT_CODE)

    def begin(number: int, frame: FrameType | None) -> None:
        stop_requested.set()
        signal.signal(signal.SIGTERM, end)
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        request_stop()

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGTERM, begin)
    signal.signal(signal.SIGALRM, end)
    try:
        yield stop_requested
    except (SystemExit, KeyboardInterrupt) as interrupt:
        raise Stopped(
            SIGTERM_EXIT_CODE if stop_requested.is_set() else SIGINT_EXIT_CODE
        ) from interrupt
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class StopFlag:
    """Ray actor that workers watch; asynchronous, so that any number of them can wait for it."""

    def __init__(self) -> None:
        self._is_up = asyncio.Event()

    async def put_up(self) -> None:
        """Set the flag."""
        self._is_up.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until the flag is set, or for some seconds; return whether it is set."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_up.wait(), seconds)
        return self._is_up.is_set()


def watch(stop: Any) -> Callable[[], bool]:
    """Return a function that returns whether the flag is set, without a remote call.

    Args:
        stop: actor handle of the `StopFlag`.
    """
    is_up = threading.Event()

    def wait() -> None:
        # The actor ends when the training is over.
        with contextlib.suppress(ray.exceptions.RayError):
            while not ray.get(stop.wait.remote(_WAIT_S)):
                pass
            is_up.set()

    threading.Thread(target=wait, daemon=True).start()
    return is_up.is_set
