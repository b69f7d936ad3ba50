"""Watchdog for workers that hang: it kills a worker that makes no progress.

The watchdog is a Ray actor in a process of its own, because a worker may hang in such a way that
none of its threads run. Its process imports this module, which therefore must not import PyTorch.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import ray
from ray.util.queue import Queue

from intertitle.training.trainer.events import WorkerHung

# Maximum time between two heartbeats, however long the timeout is.
MAX_INTERVAL_S = 2.0


class Stage(IntEnum):
    """Stage of a step that a worker is in, in order.

    Of workers that wait for each other, the one that hangs is the one in the earliest stage.
    """

    STARTING = 0
    LOADING = 1
    COMPUTING = 2
    MEASURING = 3
    MEASURED = 4


class Pulse:
    """Progress of a worker, set by its training and read by the thread that reports it.

    Attributes:
        place: step, counted from 1, and stage.
        beats: number of signs of progress so far.
    """

    def __init__(self) -> None:
        self.place: tuple[int, Stage] = (0, Stage.STARTING)
        self.beats = 0

    def at(self, step: int, stage: Stage) -> None:
        """Record that the worker has reached a step and a stage."""
        self.place = (step, stage)
        self.beats += 1

    def enter(self, stage: Stage) -> None:
        """Record that the worker has reached another stage of the same step."""
        self.at(self.place[0], stage)

    def beat(self) -> None:
        """Record progress within the same stage."""
        self.beats += 1


@dataclass(slots=True)
class _Seen:
    worker: Any
    beats: int
    place: tuple[int, int]
    since: float


class Watchdog:
    """Ray actor that kills workers which hang.

    Its methods are asynchronous, so that `watch` never keeps a worker waiting.

    Args:
        timeout_s: time without progress after which a worker is killed, in seconds.
        reports: queue that receives a `WorkerHung` event for each worker that was killed.
    """

    def __init__(self, timeout_s: float, reports: Queue) -> None:
        self._timeout_s, self._reports = timeout_s, reports
        self._seen: dict[int, _Seen] = {}

    async def join(self, rank: int, worker: Any) -> None:
        """Watch a worker; it replaces an earlier one of the same rank."""
        self._seen[rank] = _Seen(worker, -1, (0, 0), time.monotonic())

    async def beat(self, rank: int, beats: int, place: tuple[int, int]) -> None:
        """Record the progress of a worker."""
        state = self._seen.get(rank)
        if state and state.beats != beats:
            state.beats, state.place, state.since = beats, place, time.monotonic()

    async def leave(self, rank: int) -> None:
        """Stop watching a worker that has finished."""
        self._seen.pop(rank, None)

    async def forget(self) -> None:
        """Stop watching all workers, because new ones will replace them."""
        self._seen.clear()

    async def watch(self) -> None:
        """Kill workers that hang, until the actor ends."""
        while True:
            await asyncio.sleep(interval_of(self._timeout_s))
            hung_rank = self._hung()
            if hung_rank is None:
                continue
            state = self._seen[hung_rank]
            waited = time.monotonic() - state.since
            await self._reports.put_async(WorkerHung(hung_rank, self._step_of(hung_rank), waited))
            self._seen.clear()
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(state.worker)

    def _hung(self) -> int | None:
        """Return the rank of the worker that the others wait for, once it exceeds the timeout."""
        if not self._seen:
            return None
        last = min(self._seen, key=lambda rank: (self._seen[rank].place, self._seen[rank].since))
        waited = time.monotonic() - self._seen[last].since
        return last if waited > self._timeout_s else None

    def _step_of(self, rank: int) -> int:
        """Return the step that a worker is in.

        Its last report may be old, but all workers have started a step before any of them
        finishes it: at its end each waits for the gradients of the others.
        """
        steps = (state.place[0] - 1 for key, state in self._seen.items() if key != rank)
        return max(self._seen[rank].place[0], *steps, 0)


def interval_of(timeout_s: float) -> float:
    """Return the time between two heartbeats, in seconds."""
    return min(MAX_INTERVAL_S, timeout_s / 4)


@contextmanager
def watched(watchdog: Any, rank: int, pulse: Pulse, timeout_s: float) -> Iterator[None]:
    """Have the watchdog watch this process, a worker, for the duration of a block.

    Args:
        watchdog: actor handle of the `Watchdog`.
        rank: rank of this worker.
        pulse: progress of this worker.
        timeout_s: timeout of the watchdog, in seconds.
    """
    ray.get(watchdog.join.remote(rank, ray.get_runtime_context().current_actor))
    finished = threading.Event()

    def send_heartbeats() -> None:
        # The watchdog ends when the training is over.
        with contextlib.suppress(ray.exceptions.RayError):
            while not finished.wait(interval_of(timeout_s)):
                step, stage = pulse.place
                ray.get(watchdog.beat.remote(rank, pulse.beats, (step, int(stage))))

    threading.Thread(target=send_heartbeats, daemon=True).start()
    try:
        yield
    finally:
        finished.set()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(watchdog.leave.remote(rank))
