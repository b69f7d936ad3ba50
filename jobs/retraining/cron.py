"""Slots of a cron expression in a time zone, with daylight saving time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from intertitle.pipeline.errors import UserError

Missed = Literal["coalesce", "backfill", "skip"]

# A slot that starts later than this counts as missed.
_LATE = timedelta(minutes=5)
# Maximum number of slots that are run after a long interruption.
MAX_BACKFILL = 100


@dataclass(frozen=True)
class Clock:
    """Cron expression in a time zone.

    When clocks go forward, a slot in the skipped hour is moved to just after it. When clocks go
    back, a slot in the repeated hour is in its first occurrence. So every slot exists exactly once.

    Attributes:
        cron: expression with five fields, with the meaning of Debian's cron.
        timezone: name of the time zone, such as "Europe/Berlin".
    """

    cron: str
    timezone: str

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            UserError: the expression or the time zone is invalid.
        """
        try:
            zone = ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise UserError(
                f"--timezone {self.timezone!r}: not a time zone, allowed: as Europe/Berlin, or UTC"
            ) from error
        if len(self.cron.split()) != 5:
            raise UserError(
                f"--cron {self.cron!r}: {len(self.cron.split())} fields, allowed: 5, as '0 3 * * *'"
            )
        try:
            next(self._from(datetime.now(zone)))
        except (CronSimError, StopIteration) as error:
            reason = str(error) or "there is no such day"
            raise UserError(f"--cron {self.cron!r}: {reason}") from error

    def next(self, after: datetime) -> datetime:
        """Return the first slot after a time."""
        return next(self._from(after))

    def last(self, now: datetime) -> datetime:
        """Return the latest slot that is not after a time."""
        # `CronSim` returns times before its start: the next instant includes `now` itself.
        start = (now + timedelta(microseconds=1)).astimezone(ZoneInfo(self.timezone))
        return next(CronSim(self.cron, start, reverse=True))

    def due(self, after: datetime, now: datetime, missed: Missed) -> list[datetime]:
        """Return the slots to run now, oldest first.

        Args:
            after: slot that was finished last, or the start time of the schedule.
            now: current time.
            missed: treatment of missed slots: "coalesce" runs only the newest, "backfill" runs all
                (at most the newest `MAX_BACKFILL`), "skip" runs none that is more than five
                minutes late.
        """
        slots: list[datetime] = []
        times = self._from(after)
        while (slot := next(times)) <= now:
            slots.append(slot)
            del slots[:-MAX_BACKFILL]
        if missed == "backfill":
            return slots
        newest = slots[-1:]
        return newest if missed == "coalesce" else [s for s in newest if now - s <= _LATE]

    def _from(self, after: datetime) -> CronSim:
        return CronSim(self.cron, after.astimezone(ZoneInfo(self.timezone)))

    @property
    def fields(self) -> CronSim:
        """Fields of the expression, as sets of numbers."""
        return self._from(datetime.now(ZoneInfo("UTC")))


def name_of(slot: datetime) -> str:
    """Return a slot's name: its local time with the UTC offset, in ISO 8601."""
    return slot.isoformat(timespec="minutes")


def time_of(name: str) -> datetime | None:
    """Return the time of a slot's name, or None if the name is not a time with a UTC offset."""
    try:
        time = datetime.fromisoformat(name)
    except ValueError:
        return None
    return time if time.tzinfo else None
