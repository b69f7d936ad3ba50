"""A schedule as time goes by."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from intertitle.jobs.retraining.cron import Clock, Missed, time_of
from intertitle.jobs.retraining.daemon import serve

CLOCK = Clock("0 3 * * *", "Europe/Berlin")


class StopError(Exception):
    """The test's end."""


class World:
    """A clock that only sleeping moves on, and a store of finished slots."""

    def __init__(self, now: str, until: str) -> None:
        self.now, self.until = datetime.fromisoformat(now), datetime.fromisoformat(until)
        self.ran: list[str] = []
        self.finished: list[str] = []
        self.takes = timedelta(0)
        self.fails: set[str] = set()
        self.naps: list[float] = []

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.naps.append(seconds)
        self.now += timedelta(seconds=seconds)
        if self.now > self.until:
            raise StopError

    def run(self, slot: str) -> bool:
        if self.now > self.until:
            raise StopError
        self.ran.append(slot)
        self.now += self.takes
        if slot in self.fails:
            return False
        self.finished.append(slot)
        return True

    def newest(self) -> datetime | None:
        return max((t for s in self.finished if (t := time_of(s))), default=None)

    def serve(self, missed: Missed = "coalesce", run: Callable[[str], bool] | None = None) -> None:
        with pytest.raises(StopError):
            serve(
                CLOCK,
                missed,
                finished=self.newest,
                run=run or self.run,
                now=lambda: self.now,
                sleep=self.sleep,
            )


def test_each_slot_is_run_once_at_its_time() -> None:
    world = World("2026-10-23T12:00+02:00", "2026-10-26T12:00+01:00")
    world.serve()
    # The clocks change on the 25th.
    assert world.ran == [
        "2026-10-24T03:00+02:00",
        "2026-10-25T03:00+01:00",
        "2026-10-26T03:00+01:00",
    ]
    # The clock may be set, or the machine sleep: it is looked at twice a minute.
    assert max(world.naps) == 30


def test_a_slot_that_takes_days_overlaps_with_none() -> None:
    world = World("2026-11-01T12:00+01:00", "2026-11-06T12:00+01:00")
    world.takes = timedelta(hours=50)
    world.serve()
    assert world.ran == [f"2026-11-0{day}T03:00+01:00" for day in (2, 4, 6)]

    world = World("2026-11-01T12:00+01:00", "2026-11-09T12:00+01:00")
    world.takes = timedelta(hours=30)
    world.serve("backfill")
    assert world.ran[:4] == [f"2026-11-0{day}T03:00+01:00" for day in (2, 3, 4, 5)]
    assert len(set(world.ran)) == len(world.ran)


def test_a_second_daemon_runs_nothing_that_the_first_has_finished() -> None:
    world = World("2026-11-01T12:00+01:00", "2026-11-03T12:00+01:00")
    world.serve()
    ran = list(world.ran)
    world.now = world.until - timedelta(minutes=1)
    world.serve()
    assert world.ran == ran


@pytest.mark.parametrize(
    ("missed", "ran"),
    [
        ("coalesce", ["2026-11-10T03:00+01:00"]),
        ("backfill", [f"2026-11-{day:02}T03:00+01:00" for day in range(6, 11)]),
        ("skip", []),
    ],
)
def test_a_daemon_that_was_away_for_days(missed: Missed, ran: list[str]) -> None:
    world = World("2026-11-10T12:00+01:00", "2026-11-10T13:00+01:00")
    world.finished.append("2026-11-05T03:00+01:00")
    world.serve(missed)
    assert world.ran == ran


@pytest.mark.parametrize(("minutes", "days"), [(4, (2, 3, 5)), (6, (2, 4, 6))])
def test_a_slot_that_ends_too_late_for_the_next_skips_it(
    minutes: int, days: tuple[int, ...]
) -> None:
    world = World("2026-11-01T12:00+01:00", "2026-11-08T12:00+01:00")
    world.takes = timedelta(days=1, minutes=minutes)
    world.serve("skip")
    assert world.ran[:3] == [f"2026-11-0{day}T03:00+01:00" for day in days]


def test_a_slot_that_fails_is_left_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    world = World("2026-11-01T12:00+01:00", "2026-11-04T12:00+01:00")
    world.fails.add("2026-11-02T03:00+01:00")
    world.serve()
    assert world.ran == [f"2026-11-0{day}T03:00+01:00" for day in (2, 3, 4)]
    assert caplog.messages == ["slot 2026-11-02T03:00+01:00 was not finished"]
