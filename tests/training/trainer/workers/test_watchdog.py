"""The worker that hangs is ended, not those that wait for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from intertitle.training.trainer.events import WorkerHung
from intertitle.training.trainer.workers import watchdog as watchdog_module
from intertitle.training.trainer.workers.watchdog import Pulse, Stage, Watchdog


class Reports:
    def __init__(self) -> None:
        self.put: list[WorkerHung] = []

    async def put_async(self, report: WorkerHung) -> None:
        self.put.append(report)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    workers: list[str] = []
    monkeypatch.setattr(watchdog_module.ray, "kill", workers.append)
    return workers


async def watch_for(dog: Watchdog, seconds: float, *beating: tuple[int, tuple[int, int]]) -> None:
    """Watch for some time, in which some workers go on at their places."""
    task = asyncio.create_task(dog.watch())
    for beat in range(round(seconds / 0.01)):
        for rank, place in beating:
            await dog.beat(rank, beat, place)
        await asyncio.sleep(0.01)
    task.cancel()


def start(*places: tuple[int, Stage]) -> tuple[Watchdog, Any]:
    reports: Any = Reports()
    dog = Watchdog(0.1, reports)

    async def join() -> None:
        for rank, place in enumerate(places):
            await dog.join(rank, f"worker {rank}")
            await dog.beat(rank, 1, place)

    asyncio.run(join())
    return dog, reports


@pytest.mark.parametrize(
    ("places", "hung", "step"),
    [
        # The first two have come to the next step, where they wait for the third.
        (((8, Stage.STARTING), (8, Stage.STARTING), (7, Stage.COMPUTING)), 2, 7),
        (((7, Stage.COMPUTING), (7, Stage.LOADING), (7, Stage.COMPUTING)), 1, 7),
        (((40, Stage.MEASURING), (40, Stage.MEASURED)), 0, 40),
        (((41, Stage.STARTING), (40, Stage.MEASURED)), 1, 40),
        # It has told nothing since it began: the other one tells what step it must be in.
        (((9, Stage.STARTING), (0, Stage.STARTING)), 1, 8),
        (((9, Stage.COMPUTING), (0, Stage.STARTING)), 1, 8),
        # The other one has left the eighth step, and waits for it in the ninth.
        (((8, Stage.COMPUTING), (9, Stage.COMPUTING)), 0, 8),
        (((5, Stage.COMPUTING),), 0, 5),
    ],
)
def test_the_worker_that_is_furthest_behind_is_ended(
    places: tuple[tuple[int, Stage], ...], hung: int, step: int, killed: list[str]
) -> None:
    dog, reports = start(*places)
    asyncio.run(watch_for(dog, 0.5))
    # Once: the others are forgotten too, as others take their place.
    assert killed == [f"worker {hung}"]
    (report,) = reports.put
    assert (report.rank, report.step) == (hung, step)
    assert report.seconds > 0.1


def test_workers_that_go_on_or_are_done_are_left_alone(killed: list[str]) -> None:
    dog, reports = start((3, Stage.COMPUTING), (3, Stage.COMPUTING))
    asyncio.run(dog.leave(1))
    slow = (0, (3, int(Stage.COMPUTING)))
    asyncio.run(watch_for(dog, 0.5, slow))
    assert killed == reports.put == []
    asyncio.run(dog.forget())
    asyncio.run(watch_for(dog, 0.3))
    assert killed == reports.put == []


def test_a_pulse_keeps_the_step_from_stage_to_stage() -> None:
    pulse = Pulse()
    pulse.at(4, Stage.STARTING)
    pulse.enter(Stage.COMPUTING)
    pulse.beat()
    assert pulse.place == (4, Stage.COMPUTING)
    assert pulse.beats == 3
