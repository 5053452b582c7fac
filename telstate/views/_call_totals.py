"""What many calls have in common: how many were answered, how long they rang and talked, why and when they ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from telstate.views._call import WholeCall
from telstate.views._selection import number_key

__all__ = ["GROUP_FIELDS", "CallStats", "CallTotals", "GroupBy", "GroupTotals", "hour_of"]

_HOUR = 3600


class GroupBy(StrEnum):
    """What calls can be grouped by."""

    ROOM = "room"
    CAUSE = "cause"
    HOUR = "hour"
    NUMBER = "number"


GROUP_FIELDS = ("name", "calls", "answered", "answer_rate", "ring_s", "talk_s")
"""The fields of a group's record, in its order."""


class CallStats:
    """Counts calls. Averages are over the calls that have the value."""

    __slots__ = ("_open", "_ring", "_rings", "_talk", "_talks", "answered", "calls")

    def __init__(self) -> None:
        self.calls = self.answered = self._open = self._rings = self._talks = 0
        self._ring = self._talk = 0.0

    def add(self, call: WholeCall) -> None:
        """Count one more."""
        self.calls += 1
        self.answered += call.answered is True
        self._open += call.answered is None
        if (ring := call.ring_s) is not None:
            self._rings += 1
            self._ring += ring
        if (talk := call.talk_s) is not None:
            self._talks += 1
            self._talk += talk

    @property
    def decided(self) -> int:
        """How many were answered or not: those that still ring, for example, are neither."""
        return self.calls - self._open

    @property
    def answer_rate(self) -> float | None:
        """The part of the decided ones that was answered, from 0 to 1."""
        return round(self.answered / self.decided, 4) if self.decided else None

    @property
    def ring_s(self) -> float | None:
        """How long they rang on average, in seconds."""
        return round(self._ring / self._rings, 3) if self._rings else None

    @property
    def talk_s(self) -> float | None:
        """How long they talked on average, in seconds."""
        return round(self._talk / self._talks, 3) if self._talks else None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {
            "calls": self.calls,
            "answered": self.answered,
            "answer_rate": self.answer_rate,
            "ring_s": self.ring_s,
            "talk_s": self.talk_s,
        }


class CallTotals:
    """The totals of all calls that are shown."""

    def __init__(self) -> None:
        self.stats = CallStats()
        self.sessions = 0
        self.lost = 0
        """Callers on hold who got to no session."""
        self.with_anomalies = 0
        self.causes: Counter[str] = Counter()
        self._hours: dict[int, CallStats] = {}
        self.untimed = 0
        """Calls whose time is not known."""

    def add(self, call: WholeCall) -> None:
        """Count one more call."""
        self.stats.add(call)
        self.sessions += len(call.legs)
        self.lost += call.caller is not None
        self.with_anomalies += any(session.anomalies for session, _ in call.legs)
        self.causes[call.cause] += 1
        hour = hour_of(call)
        if hour is None:
            self.untimed += 1
        else:
            self._hours.setdefault(hour, CallStats()).add(call)

    def hours(self) -> Iterator[tuple[int, CallStats]]:
        """Yield the calls of each hour that has any, in Unix seconds, in order."""
        for hour in sorted(self._hours):
            yield hour, self._hours[hour]

    def spans(self) -> tuple[str, list[tuple[str, CallStats]]]:
        """Return the calls by hour, or by day or month if the log is long: what that is called, and each span with its name.

        Hours and days without calls are there too: an outage is such a gap.
        """
        if not self._hours:
            return "hour", []
        first, last = min(self._hours), max(self._hours)
        if last - first < 48 * _HOUR:
            hours = range(first, last + 1, _HOUR)
            return "hour", [(_named(hour, "%m-%d %H:%M"), self._hours.get(hour, CallStats())) for hour in hours]
        days, span, form = range(first, last + 1, 24 * _HOUR), "day", "%Y-%m-%d"
        if len(days) > 62:
            days, span, form = range(0), "month", "%Y-%m"
        found = {_named(day, form): CallStats() for day in days}
        for hour, stats in self.hours():
            _merge(found.setdefault(_named(hour, form), CallStats()), stats)
        return span, sorted(found.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the totals as JSON values."""
        return {
            **self.stats.to_dict(),
            "sessions": self.sessions,
            "lost_on_hold": self.lost,
            "with_anomalies": self.with_anomalies,
            "causes": dict(self.causes.most_common()),
            "hours": {_named(hour, "%Y-%m-%dT%H:%MZ"): stats.to_dict() for hour, stats in self.hours()},
        }


class GroupTotals:
    """The calls by room, cause, hour, or number of the other end.

    Args:
        by: what is the same in a group.
    """

    def __init__(self, by: GroupBy) -> None:
        self._by = by
        self._groups: dict[Any, tuple[str, CallStats]] = {}

    def add(self, call: WholeCall) -> None:
        """Count one more call."""
        key, name = self._of(call)
        self._groups.setdefault(key, (name, CallStats()))[1].add(call)

    def records(self) -> list[dict[str, Any]]:
        """Return a record for each group: hours in their order, all else from the most calls to the fewest. Nothing is masked."""
        records = [{"name": name, **stats.to_dict()} for name, stats in self._groups.values()]
        if self._by is GroupBy.HOUR:
            return sorted(records, key=lambda one: str(one["name"] or "~"))
        return sorted(records, key=lambda one: (-int(one["calls"]), str(one["name"])))

    def _of(self, call: WholeCall) -> tuple[Any, str]:
        match self._by:
            case GroupBy.ROOM:
                return call.room, call.room or ""
            case GroupBy.CAUSE:
                return call.cause, call.cause
            case GroupBy.HOUR:
                hour = hour_of(call)
                return hour, "" if hour is None else _named(hour, "%Y-%m-%d %H:%M")
            case GroupBy.NUMBER:
                return number_key(call.number or ""), call.number or ""


def hour_of(call: WholeCall) -> int | None:
    """Return the hour (UTC) in which a call started, in Unix seconds; None if its time is not known."""
    return None if call.started_at is None else int(call.started_at // _HOUR) * _HOUR


def _named(at: int, form: str) -> str:
    return datetime.fromtimestamp(at, UTC).strftime(form)


def _merge(into: CallStats, other: CallStats) -> None:
    for name in CallStats.__slots__:
        setattr(into, name, getattr(into, name) + getattr(other, name))
