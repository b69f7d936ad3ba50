"""The slots of a cron expression, in a time zone whose clocks may change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from pipeline.errors import UserError

Missed = Literal["coalesce", "backfill", "skip"]

# A slot that is noticed later than this was missed.
_LATE = timedelta(minutes=5)
# The most slots that are filled in after a long absence.
MAX_BACKFILL = 100


@dataclass(frozen=True)
class Clock:
    """A cron expression in a time zone; five fields, as Debian's cron reads them.

    Where clocks go forward, a slot in the hour that is left out is just after it; where they go
    back, one in the hour that comes twice is in its first: each is there once.
    """

    cron: str
    timezone: str

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: the expression or the time zone is none.
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
            raise UserError(f"--cron {self.cron!r}: {error or 'there is no such day'}") from error

    def next(self, after: datetime) -> datetime:
        """The first slot after a moment."""
        return next(self._from(after))

    def last(self, now: datetime) -> datetime:
        """The newest slot that is not after a moment."""
        # The search begins before what it is given.
        start = (now + timedelta(seconds=1)).astimezone(ZoneInfo(self.timezone))
        return next(CronSim(self.cron, start, reverse=True))

    def due(self, after: datetime, now: datetime, missed: Missed) -> list[datetime]:
        """The slots to run now.

        Args:
            after: the slot that was finished last, or the moment when the schedule began.
            now: the time.
            missed: what becomes of slots that nobody fired: "coalesce" runs the newest alone,
                "backfill" all, oldest first, "skip" none that is more than five minutes late.
        """
        slots: list[datetime] = []
        found = self._from(after)
        while (slot := next(found)) <= now:
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
        """The expression's fields, as sets of numbers."""
        return self._from(datetime(2000, 1, 1, tzinfo=ZoneInfo("UTC")))


def name_of(slot: datetime) -> str:
    """A slot as text: its time there, with the distance to UTC."""
    return slot.isoformat(timespec="minutes")


def time_of(name: str) -> datetime | None:
    """The inverse of `name_of`; None for a name that is no time."""
    try:
        time = datetime.fromisoformat(name)
    except ValueError:
        return None
    return time if time.tzinfo else None
