"""Slots, where clocks change and where nobody was there."""

from datetime import UTC, datetime, timedelta

import pytest

from intertitle.jobs.retraining.cron import MAX_BACKFILL, Clock, name_of, time_of
from intertitle.pipeline.errors import UserError

BERLIN = Clock("0 3 * * *", "Europe/Berlin")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_next_slot_and_the_newest() -> None:
    now = at("2026-11-23T12:00+01:00")
    assert BERLIN.next(now) == at("2026-11-24T03:00+01:00")
    assert BERLIN.last(now) == at("2026-11-23T03:00+01:00")
    on_time = at("2026-11-23T03:00+01:00")
    assert BERLIN.last(on_time) == on_time
    assert BERLIN.next(on_time) == at("2026-11-24T03:00+01:00")
    # A moment before a slot, the newest is that of the day before.
    for moment in (timedelta(seconds=1), timedelta(seconds=0.5), timedelta(microseconds=1)):
        assert BERLIN.last(on_time - moment) == on_time - timedelta(days=1)
        assert BERLIN.last(on_time + moment) == on_time


@pytest.mark.parametrize(
    ("cron", "day", "slots"),
    [
        # 02:00 becomes 03:00 in the night to 29 March 2026.
        ("30 2 * * *", "2026-03-29", ["2026-03-29T03:00+02:00"]),
        ("0 3 * * *", "2026-03-29", ["2026-03-29T03:00+02:00"]),
        # 03:00 becomes 02:00 in the night to 25 October 2026.
        ("30 2 * * *", "2026-10-25", ["2026-10-25T02:30+02:00"]),
        ("0 3 * * *", "2026-10-25", ["2026-10-25T03:00+01:00"]),
    ],
)
def test_a_slot_comes_once_where_clocks_change(cron: str, day: str, slots: list[str]) -> None:
    clock = Clock(cron, "Europe/Berlin")
    before = at(f"{day}T00:00+00:00") - timedelta(hours=12)
    due = clock.due(before, before + timedelta(hours=24), "backfill")
    assert list(map(name_of, due)) == slots


def test_slots_that_nobody_ran() -> None:
    finished, now = at("2026-11-20T03:00+01:00"), at("2026-11-23T12:00+01:00")
    days = [f"2026-11-{day}T03:00+01:00" for day in (21, 22, 23)]
    assert list(map(name_of, BERLIN.due(finished, now, "backfill"))) == days
    assert list(map(name_of, BERLIN.due(finished, now, "coalesce"))) == days[-1:]
    assert BERLIN.due(finished, now, "skip") == []
    on_time = at("2026-11-23T03:00:20+01:00")
    assert list(map(name_of, BERLIN.due(finished, on_time, "skip"))) == days[-1:]
    assert BERLIN.due(at(days[-1]), now, "backfill") == []
    five = at("2026-11-23T03:05:00+01:00")
    assert list(map(name_of, BERLIN.due(finished, five, "skip"))) == days[-1:]
    assert BERLIN.due(finished, five + timedelta(seconds=1), "skip") == []


@pytest.mark.parametrize(("late_s", "is_run"), [(0, True), (300, True), (301, False)])
def test_a_slot_is_skipped_when_it_is_more_than_five_minutes_late(
    late_s: int, is_run: bool
) -> None:
    finished, slot = at("2026-11-22T03:00+01:00"), at("2026-11-23T03:00+01:00")
    now = slot + timedelta(seconds=late_s)
    assert BERLIN.due(finished, now, "skip") == ([slot] if is_run else [])
    assert BERLIN.due(finished, now, "coalesce") == [slot]


def test_a_long_absence_is_not_filled_in_without_end() -> None:
    clock = Clock("* * * * *", "UTC")
    now = datetime(2026, 11, 23, tzinfo=UTC)
    due = clock.due(now - timedelta(days=10), now, "backfill")
    assert due == [now - timedelta(minutes=n) for n in reversed(range(100))]
    assert len(due) == MAX_BACKFILL


@pytest.mark.parametrize(
    ("cron", "zone", "named"),
    [
        ("0 3 * *", "UTC", "4 fields"),
        ("0 0 3 * * *", "UTC", "6 fields"),
        ("61 3 * * *", "UTC", "minute"),
        ("0 3 31 2 *", "UTC", "day-of-month"),
        # The first or the 31st, if it is the fifth Monday of a February.
        ("0 3 */30 2 MON#5", "UTC", "there is no such day"),
        ("0 3 * * *", "Mars/Base", "Mars/Base"),
        ("0 3 * * *", "../Berlin", "not a time zone"),
        ("0 3 * * *", "x" * 300, "not a time zone"),
    ],
)
def test_what_is_no_clock_is_refused_in_one_line(cron: str, zone: str, named: str) -> None:
    with pytest.raises(UserError, match=named) as error:
        Clock(cron, zone)
    assert "\n" not in str(error.value)


def test_a_slot_keeps_its_name() -> None:
    slot = BERLIN.next(at("2026-06-01T00:00+00:00"))
    assert name_of(slot) == "2026-06-01T03:00+02:00"
    assert time_of(name_of(slot)) == slot
    assert time_of("by hand") is None
    # Without an offset it may be any of 26 hours.
    assert time_of("2026-06-01T03:00") is None


def test_the_fields_of_an_expression_are_sets_of_numbers() -> None:
    fields = Clock("*/20 3 1 * MON", "Europe/Berlin").fields
    assert (fields.minutes, fields.hours, fields.days) == ({0, 20, 40}, {3}, {1})
    assert (fields.months, fields.weekdays) == (set(range(1, 13)), {1})
