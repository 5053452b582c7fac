"""Opening hours: when people may be called, by the time where they are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from telstate.errors import DefinitionError

__all__ = ["OpeningHours", "zone_of"]

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MIDNIGHT = time(0)
_LOOK_AHEAD = 8
"""Days: the next opening is within a week, on a day with hours."""


@dataclass(frozen=True)
class OpeningHours:
    """From when to when, and on which days, calls may be started.

        OpeningHours("09:00", "20:00", days="mon-fri", time_zone="Europe/Berlin")

    They are meant by the callee's clock: in the `time_zone` of the contact, else in this one. On the days on which clocks change, the
    clock on their wall counts; an hour that is left out opens an hour later.

    Attributes:
        opens: `HH:MM`.
        closes: `HH:MM`, later than `opens`; `24:00` for the end of the day. No call is started then any more; what runs goes on.
        time_zone: the IANA name of the zone of contacts without one, as `Europe/Berlin`.
        days: days or ranges of days, separated by commas: `mon-fri`, `mon,wed,sat`. By default all.

    Raises:
        DefinitionError: if one of these is something else.
    """

    opens: str
    closes: str
    time_zone: str
    days: str = "mon-sun"

    def __post_init__(self) -> None:
        """Check what was given."""
        opens, closes = _time(self.opens, "opens"), _time(self.closes, "closes")
        if closes is None or opens is None:
            if opens is None:
                raise DefinitionError("opens='24:00' is the end of the day: '00:00' is its begin")
        elif opens >= closes:
            raise DefinitionError(
                f"opens={self.opens!r} must be earlier than closes={self.closes!r}: calls at night are two campaigns"
            )
        _days(self.days)
        zone_of(self.time_zone)

    def next_open(self, at: float, time_zone: str | None = None) -> float:
        """Return the first time from `at` on at which a call may be started; `at` itself if that is one.

        Args:
            at: Unix seconds.
            time_zone: the callee's; by default that of the hours.
        """
        zone, days = zone_of(time_zone or self.time_zone), _days(self.days)
        today = datetime.fromtimestamp(at, zone).date()
        for ahead in range(_LOOK_AHEAD):
            day = today + timedelta(days=ahead)
            if day.weekday() in days:
                opens, closes = self._span(day, zone)
                if at < closes:
                    return max(at, opens)
        raise AssertionError("a week has every day")  # pragma: no cover

    def _span(self, day: date, zone: ZoneInfo) -> tuple[float, float]:
        """Return when a day opens and closes, in Unix seconds."""
        opens, closes = _time(self.opens, "opens"), _time(self.closes, "closes")
        end = datetime.combine(day if closes else day + timedelta(days=1), closes or _MIDNIGHT, zone)
        return datetime.combine(day, opens or _MIDNIGHT, zone).timestamp(), end.timestamp()


@lru_cache(maxsize=1000)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        DefinitionError: if there is none.
    """
    try:
        zone = ZoneInfo(name)
    except (ValueError, OSError, KeyError, TypeError):  # a ZoneInfoNotFoundError is a KeyError
        raise DefinitionError(
            f"time_zone={name!r:.60} is no IANA time zone such as 'Europe/Berlin'; if it is one, this machine has no zones:"
            " pip install tzdata"
        ) from None
    datetime.now(UTC).astimezone(zone)
    return zone


@lru_cache(maxsize=100)
def _time(text: str, name: str) -> time | None:
    """Read HH:MM; None for 24:00."""
    if text == "24:00":
        return None
    try:
        found = time.fromisoformat(text)
        if len(text) == 5 and found.tzinfo is None:
            return found
    except (ValueError, TypeError):
        pass
    raise DefinitionError(f"{name}={text!r:.40} must be a time of day as '09:00'")


@lru_cache(maxsize=100)
def _days(text: str) -> Collection[int]:
    """Read days of the week; Monday is 0."""
    days: set[int] = set()
    try:
        for part in text.lower().replace(" ", "").split(","):
            first, _, last = part.partition("-")
            start, end = _DAYS.index(first), _DAYS.index(last or first)
            days.update(range(start, end + 1) if start <= end else [*range(start, 7), *range(end + 1)])
    except (ValueError, AttributeError):
        raise DefinitionError(
            f"days={text!r:.60} must be days as 'mon-fri' or 'mon,wed,sat', of: {', '.join(_DAYS)}"
        ) from None
    return frozenset(days)
