"""Deadlines and silence limits of sessions. The durations are those of the settings.

A deadline notifies the handlers once. A silence limit ends the session, and restarts with every sign of life.
Nothing here reads a clock: the caller passes the time, and `passed(now)` returns the limits that passed.
"""

from __future__ import annotations

from typing import Any

from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._table import State
from telstate.events import DeadlinePassed, Direction

__all__ = ["END", "OLD_END", "PRESENCE", "SILENCE", "Limit", "SessionTimers"]

SILENCE = "silence"
"""The limit that ends a silent session, unless a `reconcile` can be asked whether it is still there."""
END = "end"
"""The limit that ends a session with a sign of its end. All others only notify."""
PRESENCE = "presence"
"""The limit for the answer of that `reconcile`. Without an answer no session ends: it is asked again, or the silence restarts."""

OLD_END = "meeting"
"""Its name in journals of before: a meeting's end was the only sign then."""


# The names of an enum are slow to look up.
_CONNECTED, _ANSWERED, _DIALIN = State.CONNECTED, State.ANSWERED, Direction.DIALIN


class Limit:
    """One limit and the sessions (or callers on hold) for which it runs, in the order in which they are due.

    Like an ExpiringDict without values: its dict holds only session ids and times, so the garbage collector does not track it.
    Every live session is in one of these.
    """

    __slots__ = ("ends", "ttl")

    def __init__(self, ttl: float) -> None:
        self.ttl: float = ttl
        """Seconds."""
        self.ends: dict[str, float] = {}
        """When it passes, by session id."""

    def start(self, session_id: str, now: float) -> None:
        """Start or restart it for a session."""
        self.ends.pop(session_id, None)
        self.ends[session_id] = now + self.ttl

    def due(self, now: float) -> list[tuple[str, float]]:
        """List the sessions for which it has passed, and when, earliest first."""
        found = []
        for session_id, due in self.ends.items():
            if due > now:
                break
            found.append((session_id, due))
        return found

    def next_due(self) -> float | None:
        """Return when it passes next."""
        return next(iter(self.ends.values()), None)

    def change(self, ttl: float) -> None:
        """Change the duration, for sessions for which it runs already too."""
        longer, self.ttl = ttl - self.ttl, ttl
        self.ends = {session_id: due + longer for session_id, due in self.ends.items()}

    def start_clock(self, now: float) -> None:
        """Count from `now`: it was started before any time was known."""
        self.ends = dict.fromkeys(self.ends, now + self.ttl)


class SessionTimers:
    """The running limits of all live sessions."""

    def __init__(self, settings: Settings) -> None:
        self._before_answer = Limit(settings.silence_before_answer)
        self._before_media = Limit(settings.silence_before_media)
        self._in_call = Limit(settings.silence_in_call)
        self.grace: Limit = Limit(settings.end_grace)
        """Runs for sessions with a sign of their end."""
        self._presence = Limit(settings.presence_retry)
        self._deadlines = _deadlines(settings)

    @property
    def _limits(self) -> list[tuple[str, Limit]]:
        return [
            (SILENCE, self._before_answer),
            (SILENCE, self._before_media),
            (SILENCE, self._in_call),
            (END, self.grace),
            (PRESENCE, self._presence),
            *self._deadlines.items(),
        ]

    def restart_silence(self, session: Session, now: float) -> None:
        """Restart the silence limit of a session: there was a sign of life."""
        session_id = session.session_id
        ends = (limit := self._silence_of(session.direction, session.state)).ends
        ends.pop(session_id, None)
        ends[session_id] = now + limit.ttl
        if self._presence.ends:
            self._presence.ends.pop(session_id, None)

    def _silence_of(self, direction: Direction, state: State) -> Limit:
        """Return the silence limit of a state. A call in progress may have no events for a long time."""
        if state is _ANSWERED:
            return self._in_call
        return self._before_media if state is _CONNECTED and direction is _DIALIN else self._before_answer

    def start_presence(self, session: Session, now: float) -> None:
        """Replace the silence limit by the limit for an answer: a `reconcile` was asked whether the session is still there."""
        for limit in (self._before_answer, self._before_media, self._in_call, self._presence):
            limit.ends.pop(session.session_id, None)
        self._presence.start(session.session_id, now)

    def awaits_presence(self, session: Session) -> bool:
        """Return whether a `reconcile` was asked about the session, and there was no sign of life since."""
        return session.session_id in self._presence.ends

    def enter(self, session: Session, now: float, source: State | None = None) -> None:
        """Start the limits of the state that a session entered, and stop those of `source`, the state before."""
        session_id, direction, state = session.session_id, session.direction, session.state
        if source is not None:
            self._silence_of(direction, source).ends.pop(session_id, None)
            if self._presence.ends:
                self._presence.ends.pop(session_id, None)
            if self._deadlines:
                for deadline in self._deadlines.values():
                    deadline.ends.pop(session_id, None)
        if session.ended:
            self.grace.ends.pop(session_id, None)
            return
        self.restart_silence(session, now)
        if self._deadlines and (name := _DEADLINE_OF.get((direction, state))) in self._deadlines:
            self._deadlines[name].start(session_id, now)

    def expect_end(self, session: Session, learned: float) -> None:
        """Let the grace begin when a sign of the end was learned."""
        ends, session_id, due = self.grace.ends, session.session_id, learned + self.grace.ttl
        if ends.get(session_id) == due:
            return
        ends.pop(session_id, None)
        is_last = not ends or due >= next(reversed(ends.values()))
        ends[session_id] = due
        if not is_last:  # rare: an earlier sign was refuted, and this one had been learned before those of others
            self.grace.ends = dict(sorted(ends.items(), key=lambda end: end[1]))

    def expect_no_end(self, session: Session) -> bool:
        """Stop the grace: no sign holds. Return whether it ran."""
        return self.grace.ends.pop(session.session_id, None) is not None

    def passed(self, now: float) -> list[DeadlinePassed]:
        """Return every limit that is due at `now`, earliest first."""
        due = [(due, name, session_id) for name, limit in self._limits for session_id, due in limit.due(now)]
        return [
            DeadlinePassed(session_id=session_id, deadline=name, due_at=max(due, 0.0))
            for due, name, session_id in sorted(due)
        ]

    def is_due(self, event: DeadlinePassed) -> bool:
        """Return whether this limit still runs as it did when it passed."""
        return any(
            name == event.deadline and limit.ends.get(event.session_id or "") == event.due_at
            for name, limit in self._limits
        )

    def acknowledge(self, event: DeadlinePassed, session: Session, now: float) -> None:
        """Stop a deadline, which notifies once. If no `reconcile` answered and none asks again, restart the silence limit."""
        if not self.is_due(event):
            return
        if event.deadline == PRESENCE:
            self.restart_silence(session, now)
        elif event.deadline in self._deadlines:
            self._deadlines[event.deadline].ends.pop(session.session_id, None)

    def ends_due(self, now: float | None) -> list[DeadlinePassed]:
        """Return the limits of signs that are due at `now`; None for all that run."""
        due = self.grace.due(float("inf") if now is None else now)
        return [DeadlinePassed(session_id=one, deadline=END, due_at=max(at, 0.0)) for one, at in due]

    def next_due(self) -> float | None:
        """Return when the next limit passes."""
        return min((due for _, limit in self._limits if (due := limit.next_due()) is not None), default=None)

    def limits(self) -> list[Limit]:
        """List all limits."""
        return [limit for _, limit in self._limits]

    def change(self, settings: Settings) -> None:
        """Use other settings, for running limits too. Only a new deadline waits until a session enters its state."""
        self._before_answer.change(settings.silence_before_answer)
        self._before_media.change(settings.silence_before_media)
        self._in_call.change(settings.silence_in_call)
        self.grace.change(settings.end_grace)
        self._presence.change(settings.presence_retry)
        before, self._deadlines = self._deadlines, _deadlines(settings)
        for name, new in self._deadlines.items():
            if name in before:
                before[name].change(new.ttl)
                self._deadlines[name] = before[name]

    def dump(self) -> dict[str, Any]:
        """Return all as JSON values."""
        return {f"{place} {name}": dict(limit.ends) for place, (name, limit) in enumerate(self._limits)}

    def load(self, dumped: dict[str, Any]) -> None:
        """Restore what `dump` returned with the same settings."""
        for place, (name, limit) in enumerate(self._limits):
            limit.ends = dict(dumped[f"{place} {name}"])


def _deadlines(settings: Settings) -> dict[str, Limit]:
    durations = (
        ("setup", settings.setup_deadline),
        ("ring", settings.ring_deadline),
        ("media", settings.media_deadline),
        ("talk", settings.talk_deadline),
    )
    return {name: Limit(ttl) for name, ttl in durations if ttl is not None}


_DEADLINE_OF = {
    (Direction.DIALIN, State.IDLE): "setup",
    (Direction.DIALOUT, State.IDLE): "setup",
    (Direction.DIALOUT, State.CONNECTED): "ring",
    (Direction.DIALIN, State.CONNECTED): "media",
    (Direction.DIALIN, State.ANSWERED): "talk",
    (Direction.DIALOUT, State.ANSWERED): "talk",
}
