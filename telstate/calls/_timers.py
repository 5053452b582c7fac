"""How long a session may be silent, and by when it should have got somewhere. Durations are those of the settings.

A deadline only tells the handlers, once. A silence limit ends the session; it starts anew whenever Daily has news of it.
Nothing here looks at a clock: `passed(now)` says what passed, and whoever has a clock asks.
"""

from __future__ import annotations

from typing import Any

from telstate.calls._session import Session
from telstate.calls._settings import Settings
from telstate.calls._table import State
from telstate.events import DeadlinePassed, Direction

__all__ = ["PRESENCE", "SILENCES", "SessionTimers"]

SILENCES = ("silence", "meeting")
"""The limits that end a session, unless somebody can be asked whether it is still there; all others only tell."""
PRESENCE = "presence"
"""The limit for an answer to that question. Nobody is ended for want of one: it is asked again, or silence begins anew."""

_IN_CALL = {
    Direction.DIALIN: (State.CONNECTED, State.ANSWERED),
    Direction.DIALOUT: (State.ANSWERED,),
}
"""The states of a call under way: it may say nothing for long."""


class Limit:
    """One limit, and the sessions for which it runs, in the order in which they are due.

    As a ExpiringDict, but with nothing on it: session ids and times are all that its dict holds, so the garbage collector never looks
    into it. Every live session is in one of these.
    """

    __slots__ = ("ends", "ttl")

    def __init__(self, ttl: float) -> None:
        self.ttl = ttl
        """Seconds."""
        self.ends: dict[str, float] = {}
        """When it passes, by session."""

    def begin(self, session_id: str, now: float) -> None:
        """Let it run, or run anew."""
        self.ends.pop(session_id, None)
        self.ends[session_id] = now + self.ttl

    def due(self, now: float) -> list[tuple[str, float]]:
        """For which sessions it has passed, and when, the earliest first."""
        found = []
        for session_id, due in self.ends.items():
            if due > now:
                break
            found.append((session_id, due))
        return found

    def next_due(self) -> float | None:
        """When it passes next."""
        return next(iter(self.ends.values()), None)

    def change(self, ttl: float) -> None:
        """Let it last so long, where it runs already as well."""
        longer, self.ttl = ttl - self.ttl, ttl
        self.ends = {session_id: due + longer for session_id, due in self.ends.items()}

    def start_clock(self, now: float) -> None:
        """Count from `now`: it ran before any time was known."""
        self.ends = dict.fromkeys(self.ends, now + self.ttl)


class SessionTimers:
    """The running limits of all live sessions."""

    def __init__(self, settings: Settings) -> None:
        self._before = Limit(settings.silence_before_answer)
        self._in_call = Limit(settings.silence_in_call)
        self._meeting = Limit(settings.silence_after_meeting)
        self._asked = Limit(settings.presence_retry)
        self._deadlines = _deadlines(settings)

    @property
    def _limits(self) -> list[tuple[str, Limit]]:
        return [
            ("silence", self._before),
            ("silence", self._in_call),
            ("meeting", self._meeting),
            (PRESENCE, self._asked),
            *self._deadlines.items(),
        ]

    def heard(self, session: Session, now: float) -> None:
        """Daily has news of the session: its silence starts anew."""
        limit = self._in_call if session.state in _IN_CALL[session.direction] else self._before
        limit.begin(session.session_id, now)
        if self._meeting.ends or self._asked.ends:
            self._meeting.ends.pop(session.session_id, None)
            self._asked.ends.pop(session.session_id, None)

    def asked(self, session: Session, now: float) -> None:
        """Somebody is asked whether the session is still there; its silence is measured by that now."""
        self._take_silences(session.session_id)
        self._asked.begin(session.session_id, now)

    def awaits(self, session: Session) -> bool:
        """Tell whether it is asked for, and nothing was heard of it since."""
        return session.session_id in self._asked.ends

    def _take_silences(self, session_id: str) -> None:
        for limit in (self._before, self._in_call, self._meeting, self._asked):
            limit.ends.pop(session_id, None)

    def entered(self, session: Session, now: float, source: State | None = None) -> None:
        """The session entered a live or its first terminal state, from `source` if from any: other limits hold."""
        session_id, direction, state = session.session_id, session.direction, session.state
        if source is not None:
            (self._in_call if source in _IN_CALL[direction] else self._before).ends.pop(session_id, None)
            if self._meeting.ends or self._asked.ends:
                self._meeting.ends.pop(session_id, None)
                self._asked.ends.pop(session_id, None)
            if self._deadlines:
                for deadline in self._deadlines.values():
                    deadline.ends.pop(session_id, None)
        if session.ended:
            return
        self.heard(session, now)
        if self._deadlines and (name := _DEADLINE_OF.get((direction, state))) in self._deadlines:
            self._deadlines[name].begin(session_id, now)

    def meeting_ended(self, session: Session, now: float) -> None:
        """Daily ends all SIP connections with the meeting; the session's own stopped should follow soon."""
        self._meeting.begin(session.session_id, now)

    def passed(self, now: float) -> list[DeadlinePassed]:
        """Tell every limit that is due at `now`, the earliest first."""
        due = [(due, name, session_id) for name, limit in self._limits for session_id, due in limit.due(now)]
        return [
            DeadlinePassed(session_id=session_id, deadline=name, due_at=max(due, 0.0))
            for due, name, session_id in sorted(due)
        ]

    def is_due(self, event: DeadlinePassed) -> bool:
        """Tell whether this limit still runs as it did when it passed."""
        return any(
            name == event.deadline and limit.ends.get(event.session_id) == event.due_at for name, limit in self._limits
        )

    def told(self, event: DeadlinePassed, session: Session, now: float) -> None:
        """Tell a deadline only once; and where nobody asks any more, wait for a silence as if nobody had asked."""
        if not self.is_due(event):
            return
        if event.deadline == PRESENCE:
            self.heard(session, now)
        elif event.deadline in self._deadlines:
            self._deadlines[event.deadline].ends.pop(event.session_id, None)

    def next_due(self) -> float | None:
        """When the next limit passes."""
        return min((due for _, limit in self._limits if (due := limit.next_due()) is not None), default=None)

    def limits(self) -> list[Limit]:
        """All that is due at some time."""
        return [limit for _, limit in self._limits]

    def change(self, settings: Settings) -> None:
        """Other settings hold from now on, for the limits that run as well; only a deadline that is new waits for new states."""
        self._before.change(settings.silence_before_answer)
        self._in_call.change(settings.silence_in_call)
        self._meeting.change(settings.silence_after_meeting)
        self._asked.change(settings.presence_retry)
        known, self._deadlines = self._deadlines, _deadlines(settings)
        for name, new in self._deadlines.items():
            if name in known:
                known[name].change(new.ttl)
                self._deadlines[name] = known[name]

    def dump(self) -> dict[str, Any]:
        """Write it down as JSON values."""
        return {f"{place} {name}": dict(limit.ends) for place, (name, limit) in enumerate(self._limits)}

    def load(self, dumped: dict[str, Any]) -> None:
        """Read what `dump` wrote, with the same settings."""
        for place, (name, limit) in enumerate(self._limits):
            limit.ends = dict(dumped[f"{place} {name}"])


def _deadlines(settings: Settings) -> dict[str, Limit]:
    durations = (
        ("setup", settings.setup_deadline),
        ("ring", settings.ring_deadline),
        ("media", settings.media_deadline),
    )
    return {name: Limit(ttl) for name, ttl in durations if ttl is not None}


_DEADLINE_OF = {
    (Direction.DIALIN, State.IDLE): "setup",
    (Direction.DIALOUT, State.IDLE): "setup",
    (Direction.DIALOUT, State.CONNECTED): "ring",
    (Direction.DIALIN, State.CONNECTED): "media",
}
