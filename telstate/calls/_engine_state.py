"""All that an engine knows, in one place: what it remembers, for how long, and what has just left it.

Its parts do not know each other; this is where time reaches all of them, and where a snapshot is taken of all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from telstate.calls._endpoints import Endpoints
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._outcome import Unmatched
from telstate.calls._parking import Parked, Parking
from telstate.calls._registry import Registry
from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._timers import SessionTimers
from telstate.events._base import YEAR_2100

__all__ = ["EngineState"]


class EngineState:
    """The memory of an engine."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: float | None = None
        """The latest time given; None before any."""
        self.now = 0.0
        """The same as a number: before any time is given, nothing can fall due."""
        self.number = 0
        """How many events were received; the number of the present one."""
        self.registry = Registry(settings.retention)
        self.keys: ExpiringDict[str, bool] = ExpiringDict(settings.key_ttl, settings.max_keys)
        self.early = Parking(settings.parked_ttl, settings.max_parked)
        """Events that name a session not yet known."""
        self.unmatched = Parking(settings.parked_ttl, settings.max_parked)
        """Events that speak of a session and do not name it."""
        self.endpoints = Endpoints(settings.retention, settings.max_parked)
        self.patience = SessionTimers(settings)
        self.leaving: list[Session | Unmatched] = []
        self._tidy_at = float("-inf")

    def advance(self, now: float) -> None:
        """Let it be `now`, unless it was later already; forget what is due.

        Raises:
            ValueError: if `now` is no time in Unix seconds before the year 2100; milliseconds are the usual cause.
        """
        if self.now < now < self._tidy_at:  # nearly always: nothing is due before that, and it is a time
            self.clock = self.now = now
            return
        if not 0 <= now < YEAR_2100:
            raise ValueError(f"now is a time in Unix seconds, and {now!r} is none; are these milliseconds?")
        if self.clock is None:
            for shelf in self._shelves():
                shelf.start_clock(now)
            for limit in self.patience.limits():
                limit.start_clock(now)
            self.clock = self.now = now
        elif now > self.now:
            self.clock = self.now = now
        if self.now >= self._tidy_at:
            self._tidy()

    def _tidy(self) -> None:
        """Forget what is due, and compute when to look again: nothing that comes later is due before that."""
        self.keys.expire(self.now)
        self.early.expire(self.now)
        self.give_up(self.unmatched.expire(self.now))
        self.retire(self.registry.ended.expire(self.now))
        self.endpoints.expire(self.now)
        soonest = self.now + min(shelf.ttl for shelf in self._shelves())
        self._tidy_at = min(soonest, self.next_due() or soonest, YEAR_2100)

    def change(self, settings: Settings) -> None:
        """Other settings hold from now on, for what is remembered already too."""
        self.settings = settings
        self.registry.ended.change(settings.retention)
        self.keys.change(settings.key_ttl, settings.max_keys)
        self.early.shelf.change(settings.parked_ttl, settings.max_parked)
        self.unmatched.shelf.change(settings.parked_ttl, settings.max_parked)
        for shelf in self.endpoints.shelves():
            shelf.change(settings.retention, settings.max_parked)
        self.patience.change(settings)
        self._tidy_at = float("-inf")

    def next_due(self) -> float | None:
        """When something is to be forgotten next."""
        return min((due for shelf in self._shelves() if (due := shelf.next_due()) is not None), default=None)

    def _shelves(self) -> list[ExpiringDict[Any, Any]]:
        return [self.keys, self.early.shelf, self.unmatched.shelf, self.registry.ended, *self.endpoints.shelves()]

    def retire(self, sessions: Iterable[Session]) -> None:
        """Sessions left memory."""
        for session in sessions:
            self.registry.forget(session)
            self.leaving.append(session)

    def give_up(self, parked: Iterable[Parked]) -> None:
        """Events left memory that nobody claimed."""
        self.leaving.extend(Unmatched(one.event(), one.received_at) for one in parked)

    def take_leaving(self) -> tuple[Session | Unmatched, ...]:
        """What left since the last time."""
        leaving, self.leaving = tuple(self.leaving), []
        return leaving

    def sizes(self) -> dict[str, int]:
        """How much is remembered of what."""
        return {
            **self.registry.sizes(),
            "keys": len(self.keys),
            "early": len(self.early.shelf),
            "unmatched": len(self.unmatched.shelf),
            "endpoints": len(self.endpoints),
            "callers": len(self.endpoints.callers),
            "limits": sum(len(limit.ends) for limit in self.patience.limits()),
        }

    def dump(self) -> dict[str, Any]:
        """Write it down as JSON values."""
        return {
            "settings": self.settings.model_dump(),
            "clock": self.clock,
            "number": self.number,
            "registry": self.registry.dump(),
            "keys": self.keys.dump(),
            "early": self.early.dump(),
            "unmatched": self.unmatched.dump(),
            "endpoints": self.endpoints.dump(),
            "patience": self.patience.dump(),
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> EngineState:
        """Read what `dump` wrote."""
        known = cls(Settings.model_validate(dumped["settings"]))
        known.clock = dumped["clock"]
        known.now = known.clock or 0.0
        known.number = dumped["number"]
        for part in ("registry", "keys", "early", "unmatched", "endpoints", "patience"):
            getattr(known, part).load(dumped[part])
        return known
