"""The memory of an engine: all it knows, for how long, and what has just left it.

The parts do not know each other. This is where time reaches all of them, and where a snapshot of all is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from telstate.calls._caller import Caller
from telstate.calls._callers import Callers
from telstate.calls._endpoint_lineup import EndpointLineup
from telstate.calls._endpoints import Endpoints
from telstate.calls._evidence import Evidence
from telstate.calls._expiring_dict import ExpiringDict
from telstate.calls._far_legs import FarLegs
from telstate.calls._intents import Intents
from telstate.calls._interruptions import Interruptions
from telstate.calls._outcome import Unmatched
from telstate.calls._parked_events import ParkedEvent, ParkedEvents
from telstate.calls._recorder import LEGS_NOTED, note_departure
from telstate.calls._registry import Registry
from telstate.calls._requested_actions import RequestedActions
from telstate.calls._room_endpoints import RoomEndpoints
from telstate.calls._session import Session, inferred_end
from telstate.calls._settings import Settings
from telstate.calls._shared_signs import SharedSigns
from telstate.calls._timers import SessionTimers
from telstate.events import Direction
from telstate.events._base import YEAR_2100

__all__ = ["EngineState"]

_OTHER_PARTS = ("keys", "early", "unmatched", "endpoints", "timers", "rooms", "callers", "shared_signs")
"""Those that every snapshot has, besides the registry."""


class EngineState:
    """All that an engine knows."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: float | None = None
        """The latest time it was given; None before any."""
        self.now = 0.0
        """The same as a number. Before any time is given, nothing can be due."""
        self.number = 0
        """The number of the current event."""
        self.event_at: float | None = None
        """When the event happened that is being applied, also a parked one: its own time, else that of its receipt."""
        self.told_by = 0
        """The dialect of that event, as evidence."""
        self.registry = Registry(settings.retention)
        self.keys: ExpiringDict[str, bool] = ExpiringDict(settings.key_ttl, settings.max_keys)
        """The keys by which webhooks are deduplicated."""
        self.early = ParkedEvents(settings.parked_ttl, settings.max_parked)
        """Events that name a session not yet known."""
        self.unmatched = ParkedEvents(settings.parked_ttl, settings.max_parked)
        """Events that are about a session and do not name it."""
        self.changed: list[Session] = []
        """The sessions that the current event changed, and did not let rise: see `Outcome.changed`."""
        self.far_legs = FarLegs(self.registry, self.changed, self._see_dialin)
        """It follows from the sessions, so a snapshot does not have it."""
        self.endpoints = Endpoints(settings.retention, settings.max_parked)
        self.timers = SessionTimers(settings)
        self.shared_signs = SharedSigns(settings.retention, settings.max_parked)
        self.interruptions = Interruptions(settings.retention, settings.max_parked)
        self.requests = RequestedActions(settings.key_ttl, settings.max_parked)
        """What other partitions asked for."""
        self.intents = Intents(settings.intent_ttl, settings.max_intents)
        """The ledger of dials."""
        self.notes_ahead: ExpiringDict[str, dict[str, Any]] = ExpiringDict(settings.retention, settings.max_parked)
        """The program's notes about calls that it is about to start, by the `userId` of the start."""
        self.untold: dict[str, float | None] = {}
        """The ended sessions whose end Daily did not report, each with the time by which it had ended; None without a sign of the end."""
        self.lineup = EndpointLineup(self.registry.get)
        """It follows from the sessions, so a snapshot does not have it."""
        self.rooms = RoomEndpoints(
            settings.retention, settings.max_parked, lambda session_id: session_id in self.registry.live
        )
        self.callers = Callers(
            settings, self.registry.get, self.registry.all, self.far_legs.is_transferred, self.changed
        )
        self.departed: list[Session | Unmatched | Caller] = []
        """What left memory and was not reported yet."""
        self._expiring: tuple[tuple[ExpiringDict[Any, Any], Callable[[float], object]], ...] = (
            (self.keys, self.keys.expire),
            (self.early.entries, self.early.expire),
            (self.unmatched.entries, lambda now: self.give_up(self.unmatched.expire(now))),
            (self.registry.ended, lambda now: self.retire(self.registry.ended.leaving(now))),
            (self.endpoints.free, self.endpoints.expire),
            (self.rooms.free, self.rooms.expire),
            (self.shared_signs, self.shared_signs.expire),
            (self.interruptions, self.interruptions.expire),
            (self.requests, self.requests.expire),
            (self.intents, self.intents.expire),
            (self.notes_ahead, self.notes_ahead.expire),
            (self.callers.known, lambda now: self.departed.extend(self.callers.expire(now, self._before))),
        )
        """What expires, and how it is forgotten, in this order."""
        self._shortest_ttl = min(entries.ttl for entries, _ in self._expiring)
        self._clean_up_at = float("-inf")
        self._before = 0.0
        """The time of the event before, for those that forget. Not kept up to date while nothing is due."""

    def _see_dialin(self, session: Session) -> None:
        """Something may be new of a session that may be a caller on hold."""
        if self.callers.known and session.direction is Direction.DIALIN:
            self.callers.links.see(session, self.now)

    def advance(self, now: float) -> None:
        """Set the time to `now`, unless it is later already, and forget what is due.

        Raises:
            ValueError: if `now` is not a time in Unix seconds before the year 2100; milliseconds are the usual cause.
        """
        if self.now < now < self._clean_up_at:  # nearly always: it is a valid time, and nothing is due before that
            self.clock = self.now = now
            return
        if not 0 <= now < YEAR_2100:
            raise ValueError(f"now: expected a time in Unix seconds, got {now!r}; are these milliseconds?")
        if self.clock is None:
            for entries, _ in self._expiring:
                entries.start_clock(now)
            for limit in (*self.timers.limits(), *self.callers.limits()):
                limit.start_clock(now)
            self.clock = self.now = now
        elif now > self.now:
            self._before, self.clock, self.now = self.now, now, now
        if self.now >= self._clean_up_at:
            self._clean_up()

    def _clean_up(self) -> None:
        """Forget what is due, and compute when to do so next: nothing added later is due before that."""
        soonest = min(self.now + self._shortest_ttl, YEAR_2100)
        for entries, forget in self._expiring:
            if not entries:  # as most are
                continue
            due = entries.next_due()
            if due is not None and due <= self.now:
                forget(self.now)
                due = entries.next_due()
            if due is not None and due < soonest:
                soonest = due
        self._clean_up_at = soonest

    def change(self, settings: Settings) -> None:
        """Use other settings from now on, for what is remembered already too."""
        self.settings = settings
        self.registry.ended.change(settings.retention)
        self.keys.change(settings.key_ttl, settings.max_keys)
        self.early.entries.change(settings.parked_ttl, settings.max_parked)
        self.unmatched.entries.change(settings.parked_ttl, settings.max_parked)
        for expiring in (
            *(self.endpoints.free, self.rooms.free),
            *(self.shared_signs, self.interruptions, self.notes_ahead),
        ):
            expiring.change(settings.retention, settings.max_parked)
        self.requests.change(settings.key_ttl, settings.max_parked)
        self.intents.change(settings.intent_ttl, settings.max_intents)
        self.timers.change(settings)
        self.callers.change(settings)
        self._shortest_ttl = min(entries.ttl for entries, _ in self._expiring)
        self._clean_up_at = float("-inf")

    def next_due(self) -> float | None:
        """Return when something is to be forgotten next."""
        return min((due for entries, _ in self._expiring if (due := entries.next_due()) is not None), default=None)

    def retire(self, sessions: Iterable[Session]) -> None:
        """Forget sessions that leave memory, while those that leave after them are still known."""
        for session in sessions:
            note_departure(session, self.registry.other_legs(session, LEGS_NOTED))
            if self.callers.known:
                self.callers.links.forget(session)
            self.far_legs.forget(session)
            self.registry.forget(session)
            if session.room is not None:
                self.rooms.leave(session.room, session.session_id)
            self.lineup.leave(session)
            self.untold.pop(session.session_id, None)
            self.departed.append(session)

    def give_up(self, parked: Iterable[ParkedEvent]) -> None:
        """Report events that left memory without a session."""
        self.departed.extend(Unmatched(one.event, one.received_at) for one in parked)

    def take_departed(self) -> tuple[Session | Unmatched | Caller, ...]:
        """Return what left memory since the last call."""
        departed, self.departed = tuple(self.departed), []
        return departed

    def take_changed(self) -> tuple[Session, ...]:
        """Return the sessions that the current event changed, each once."""
        if len(self.changed) == 1:  # nearly always
            return (self.changed.pop(),)
        changed = tuple({id(session): session for session in self.changed}.values())
        self.changed.clear()
        return changed

    def sizes(self) -> dict[str, int]:
        """Count what is remembered."""
        return {
            **self.registry.sizes(),
            "keys": len(self.keys),
            "early": len(self.early.entries),
            "unmatched": len(self.unmatched.entries),
            "endpoints": len(self.endpoints),
            "addresses": len(self.far_legs),
            "transfers": len(self.far_legs.concerned),
            "rooms": len(self.rooms),
            "lineups": len(self.lineup),
            "signs": len(self.shared_signs),
            "interruptions": len(self.interruptions),
            "requests": len(self.requests),
            "intents": len(self.intents),
            "notes": len(self.notes_ahead),
            "untold": len(self.untold),
            **self.callers.sizes(),
            "limits": sum(len(limit.ends) for limit in self.timers.limits()),
        }

    def numbers(self) -> list[int]:
        """List the numbers of the events that opened what is known."""
        return [
            *(session.opened for session in self.registry.live.values()),
            *(session.opened for _, session in self.registry.ended.values()),
            *(caller._number for _, caller in self.callers.known.values()),
            *(one.number for parked in (self.early, self.unmatched) for _, one in parked.entries.values()),
        ]

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {
            "settings": self.settings.model_dump(),
            "clock": self.clock,
            "number": self.number,
            "registry": self.registry.dump(),
            **{part: getattr(self, part).dump() for part in _OTHER_PARTS},
            "interruptions": self.interruptions.dump(),
            "requests": self.requests.dump(),
            "intents": self.intents.dump(),
            "notes_ahead": self.notes_ahead.dump(),
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> EngineState:
        """Restore what `dump` returned."""
        state = cls(Settings.model_validate(dumped["settings"]))
        state.clock = dumped["clock"]
        state.now = state.clock or 0.0
        state.number = dumped["number"]
        state.registry.load(dumped["registry"])
        sessions = list(state.registry.all())
        state.far_legs.load(sessions)  # callers ask which dial-ins are far legs
        for part in _OTHER_PARTS:
            getattr(state, part).load(dumped[part])
        state.interruptions.load(dumped.get("interruptions", ()))  # older snapshots have none
        state.requests.load(dumped.get("requests", ()))
        state.intents.load(dumped.get("intents", ()))
        state.notes_ahead.load(dumped.get("notes_ahead", ()))
        untold = (one for _, one in state.registry.ended.values() if not one._evidence & Evidence.TOLD)
        state.untold = {one.session_id: end.by if (end := inferred_end(one)) else None for one in untold}
        state.lineup.load(sessions)
        return state
