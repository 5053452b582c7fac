"""The limits of sessions, from the engine's deadlines: which passed, and when to look again. It waits for nothing itself."""

from __future__ import annotations

import math

from telstate.calls._engine import Engine
from telstate.calls._settings import Settings
from telstate.calls._timers import PRESENCE, SILENCES
from telstate.events import DeadlinePassed, Event, Presence, PresenceChecked

__all__ = ["Limits"]


class Limits:
    """When they pass.

    Args:
        engine: which knows them.
        reconciles: True if somebody can be asked whether a silent session is still there.
    """

    def __init__(self, engine: Engine, *, reconciles: bool) -> None:
        self._engine = engine
        self._reconciles = reconciles
        self.look_at = -math.inf
        """Up to then nothing is due, so nobody needs to ask."""
        self._shortest = _shortest(engine.settings)

    def before(self, now: float) -> list[Event]:
        """What passed before `now`, as events to step first. What is due at this very instant waits: the event wins."""
        if now <= self.look_at:
            return []
        passed = [self._event(limit) for limit in self._engine.passed(now) if limit.due_at < now]
        if not passed:
            due = self._engine.next_deadline()
            self.look_at = min(now + self._shortest, max(now, due) if due is not None else math.inf)
        return passed

    def passed(self, now: float) -> list[Event]:
        """What is due by `now`."""
        return [self._event(limit) for limit in self._engine.passed(now)]

    def wait(self, now: float) -> float:
        """Seconds until something is due, but never longer than the shortest of all durations: what begins meanwhile, and
        is due the soonest, cannot be overslept."""
        due = self._engine.next_deadline()
        return self._shortest if due is None else min(due - now, self._shortest)

    def changed(self) -> None:
        """Other settings hold: look again at all."""
        self.look_at = -math.inf
        self._shortest = _shortest(self._engine.settings)

    def _event(self, limit: DeadlinePassed) -> Event:
        if self._reconciles and limit.deadline in (*SILENCES, PRESENCE):
            return PresenceChecked(session_id=limit.session_id, presence=Presence.UNKNOWN)
        return limit


def _shortest(settings: Settings) -> float:
    durations = (
        settings.silence_before_answer,
        settings.silence_in_call,
        settings.silence_after_meeting,
        settings.presence_retry,
        settings.setup_deadline,
        settings.ring_deadline,
        settings.media_deadline,
        settings.key_ttl,
        settings.retention,
        settings.parked_ttl,
    )
    return min(duration for duration in durations if duration is not None)
