"""How a training is stopped: its driver hears a signal, its workers look at a sign.

The sign is an actor of Ray's, whose process imports this module: so PyTorch is not to be in it.
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

from pipeline.errors import SIGINT_EXIT_CODE, SIGTERM_EXIT_CODE, Stopped

# After SIGTERM the workers have so long to keep a checkpoint: most schedulers kill after 30 s.
GRACE_S = 25.0


@contextmanager
def stopping(ask: Callable[[], object]) -> Iterator[threading.Event]:
    """The first SIGTERM asks; a second one, `GRACE_S` or Ctrl-C raise `Stopped`.

    Ray answers Ctrl-C by leaving with exit code 0, and keeps its handler after; a `Stopped` that is
    raised inside of it comes out as a KeyboardInterrupt.

    Args:
        ask: the workers to stop.

    Yields:
        Whether they were asked.
    """
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Stopped(SIGTERM_EXIT_CODE)

    def begin(number: int, frame: FrameType | None) -> None:
        told.set()
        signal.signal(signal.SIGTERM, end)
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        ask()

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    signal.signal(signal.SIGTERM, begin)
    signal.signal(signal.SIGALRM, end)
    try:
        yield told
    except (SystemExit, KeyboardInterrupt) as left:
        raise Stopped(SIGTERM_EXIT_CODE if told.is_set() else SIGINT_EXIT_CODE) from left
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)


class StopSign:
    """An actor, which workers watch; asynchronous, so that any number of them can."""

    def __init__(self) -> None:
        self._is_up = asyncio.Event()

    async def put_up(self) -> None:
        self._is_up.set()

    async def wait(self) -> None:
        await self._is_up.wait()


def watch(stop: Any) -> Callable[[], bool]:
    """Whether the sign is up, at the price of looking at a variable."""
    is_up = threading.Event()

    def wait() -> None:
        # The sign goes when the training is over.
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(stop.wait.remote())
            is_up.set()

    threading.Thread(target=wait, daemon=True).start()
    return is_up.is_set
