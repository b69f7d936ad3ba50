"""A watch over workers that hang: each tells where it is, and one that makes no progress is ended.

The watchdog is an actor of Ray's, in a process of its own, because a worker may hang so that none
of its threads run. That process imports this module: so PyTorch is not to be in it.
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

from training.reports import WorkerHung

# Seconds between two beats, at most; the longest timeout is looked at as often.
MAX_INTERVAL_S = 2.0


class Stage(IntEnum):
    """What a worker does in a step, in order; of workers that wait for each other the one that
    hangs is the one that is furthest behind."""

    STARTING = 0
    LOADING = 1
    COMPUTING = 2
    MEASURING = 3
    MEASURED = 4


class Pulse:
    """Where a worker is; written by its training, read by the thread that tells the watchdog.

    Attributes:
        place: the step, counted from 1, and the stage.
        beats: counts every sign of progress.
    """

    def __init__(self) -> None:
        self.place: tuple[int, Stage] = (0, Stage.STARTING)
        self.beats = 0

    def at(self, step: int, stage: Stage) -> None:
        """Note that the worker has come to a place."""
        self.place = (step, stage)
        self.beats += 1

    def enter(self, stage: Stage) -> None:
        """Note that the worker has come to another stage of the same step."""
        self.at(self.place[0], stage)

    def beat(self) -> None:
        """Note progress at the same place."""
        self.beats += 1


@dataclass(slots=True)
class _Seen:
    worker: Any
    beats: int
    place: tuple[int, int]
    since: float


class Watchdog:
    """The actor. Its methods are asynchronous, so that `watch` never keeps a worker waiting.

    Args:
        timeout_s: a worker that makes no progress for so long is ended.
        reports: where it is told.
    """

    def __init__(self, timeout_s: float, reports: Queue) -> None:
        self._timeout_s, self._reports = timeout_s, reports
        self._seen: dict[int, _Seen] = {}

    async def join(self, rank: int, worker: Any) -> None:
        """Watch a worker; it takes the place of one of the same rank."""
        self._seen[rank] = _Seen(worker, -1, (0, 0), time.monotonic())

    async def beat(self, rank: int, beats: int, place: tuple[int, int]) -> None:
        """Hear where a worker is."""
        seen = self._seen.get(rank)
        if seen and seen.beats != beats:
            seen.beats, seen.place, seen.since = beats, place, time.monotonic()

    async def leave(self, rank: int) -> None:
        """Forget a worker that is done."""
        self._seen.pop(rank, None)

    async def forget(self) -> None:
        """Forget all workers: others take their place."""
        self._seen.clear()

    async def watch(self) -> None:
        """End the worker that hangs, whenever there is one."""
        while True:
            await asyncio.sleep(interval_of(self._timeout_s))
            hung = self._hung()
            if hung is None:
                continue
            seen = self._seen[hung]
            waited = time.monotonic() - seen.since
            await self._reports.put_async(WorkerHung(hung, self._step_of(hung), waited))
            self._seen.clear()
            with contextlib.suppress(ray.exceptions.RayError):
                ray.kill(seen.worker)

    def _hung(self) -> int | None:
        """The rank of the worker that the others wait for, once it took too long."""
        if not self._seen:
            return None
        last = min(self._seen, key=lambda rank: (self._seen[rank].place, self._seen[rank].since))
        waited = time.monotonic() - self._seen[last].since
        return last if waited > self._timeout_s else None

    def _step_of(self, rank: int) -> int:
        """The step that a worker is in. What it last told may be old, but none of the others is
        past the start of a step before all have come there."""
        others = (seen.place for other, seen in self._seen.items() if other != rank)
        steps = (step - (stage <= Stage.STARTING) for step, stage in others)
        return max(self._seen[rank].place[0], *steps, 0)


def interval_of(timeout_s: float) -> float:
    """Seconds between two beats."""
    return min(MAX_INTERVAL_S, timeout_s / 4)


@contextmanager
def watched(watchdog: Any, rank: int, pulse: Pulse, timeout_s: float) -> Iterator[None]:
    """Have this process, a worker, watched for the length of a block."""
    ray.get(watchdog.join.remote(rank, ray.get_runtime_context().current_actor))
    over = threading.Event()

    def tell() -> None:
        # The watchdog goes when the training is over.
        with contextlib.suppress(ray.exceptions.RayError):
            while not over.wait(interval_of(timeout_s)):
                step, stage = pulse.place
                ray.get(watchdog.beat.remote(rank, pulse.beats, (step, int(stage))))

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(watchdog.leave.remote(rank))
