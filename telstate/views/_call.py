"""A call as a whole: its sessions together, or a caller on hold who got to none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from telstate.calls._caller import Caller, CallerState
from telstate.calls._evidence import Cause
from telstate.calls._session import Session
from telstate.events import Direction

__all__ = ["CallGrouping", "WholeCall"]

_NOT_YET = (CallerState.WAITING, CallerState.FORWARDED, CallerState.UNKNOWN)
"""What does not say whether a caller on hold gets to a session."""


class WholeCall:
    """All sessions of one call, in order of their start; or one caller on hold without a session.

    The call counts as its first session that was answered, else as its first: what is said of the call is said of that one.

    Args:
        legs: the sessions, each with its record.
        caller: the caller on hold, with their record, if there is no session.
    """

    def __init__(
        self, legs: Iterable[tuple[Session, dict[str, Any]]] = (), caller: tuple[Caller, dict[str, Any]] | None = None
    ) -> None:
        self.legs = sorted(legs, key=_order)
        self.caller = caller
        answered = (session for session, _ in self.legs if _took_place(session))
        self.main: Session | None = next(answered, self.legs[0][0] if self.legs else None)

    @property
    def call_id(self) -> str:
        """The id of its first session, or of the caller on hold."""
        return self.legs[0][0].session_id if self.legs else self._lost.call_id

    @property
    def direction(self) -> Direction:
        """The direction of its main session."""
        return Direction.DIALIN if self.main is None else self.main.direction

    @property
    def started_at(self) -> float | None:
        """When its first session started, or when the caller called."""
        starts = [session.started_at for session, _ in self.legs] if self.legs else [self._lost.started_at]
        return min((at for at in starts if at is not None), default=None)

    @property
    def ended_at(self) -> float | None:
        """When its last session ended; None while one lives."""
        ends = [session.ended_at for session, _ in self.legs] if self.legs else [self._lost.ended_at]
        return max((at for at in ends if at is not None), default=None) if None not in ends else None

    @property
    def answered(self) -> bool | None:
        """True if a session was answered, or took place as far as its cause says; None if that is still open."""
        if self.main is None:
            return None if self._lost.state in _NOT_YET else False
        if _took_place(self.main):
            return True
        return False if all(session.ended for session, _ in self.legs) else None

    @property
    def cause(self) -> str:
        """Why it ended, else the state that it is in, in brackets."""
        if self.main is None:
            state = self._lost.state
            return f"({state})" if state in (CallerState.WAITING, CallerState.FORWARDED) else str(state)
        return str(self.main.cause or f"({self.main.state})")

    @property
    def room(self) -> str | None:
        """The room of its main session, else of any."""
        return next((s.room for s in (self.main, *(one for one, _ in self.legs)) if s is not None and s.room), None)

    @property
    def number(self) -> str | None:
        """Who called in, or who was called: a phone number or a SIP address."""
        if self.main is None:
            return self._lost.from_
        if self.main.direction is Direction.DIALOUT:
            return self.main.destination
        return self.main.caller or self.main.sip_from

    @property
    def ring_s(self) -> float | None:
        """How long its main session rang, in seconds."""
        return None if self.main is None else self.main.ring_s

    @property
    def talk_s(self) -> float | None:
        """How long its main session talked, in seconds."""
        return None if self.main is None else self.main.talk_s

    @property
    def _lost(self) -> Caller:
        assert self.caller is not None  # noqa: S101 - a call without a session has a caller
        return self.caller[0]

    def records(self) -> list[dict[str, Any]]:
        """Return the records of its sessions, or of its caller on hold."""
        return [record for _, record in self.legs] if self.caller is None else [self.caller[1]]

    def to_dict(self) -> dict[str, Any]:
        """Return the record of this call, with those of its sessions, as JSON values. Numbers and names are not masked."""
        return {
            "call_id": self.call_id,
            "direction": self.direction.value,
            "answered": self.answered,
            "cause": self.cause,
            "room": self.room,
            "phone_number": self.number,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "ring_s": self.ring_s,
            "talk_s": self.talk_s,
            "sessions": [record for _, record in self.legs],
            "caller": None if self.caller is None else self.caller[1],
        }

    def to_sort(self) -> dict[str, Any]:
        """Return the record to sort it by: that of its main session, with the times of the whole call."""
        found = self.caller[1] if self.caller is not None else {}
        for session, record in self.legs:
            if session is self.main:
                found = record
        return {**found, "started_at": self.started_at, "ended_at": self.ended_at}


def _took_place(session: Session) -> bool:
    """Return whether somebody answered. A log without participants does not say so of a dial-in, but its cause does."""
    return session.was_answered or session.cause in (Cause.COMPLETED, Cause.TRANSFERRED)


def _order(leg: tuple[Session, dict[str, Any]]) -> tuple[float, int]:
    session = leg[0]
    return (float("inf") if session.started_at is None else session.started_at, session.opened)


@dataclass(eq=False)
class _Gathering:
    """The sessions of a call that have left memory, until the others have too."""

    legs: list[tuple[Session, dict[str, Any]]] = field(default_factory=list)
    arrived: set[str] = field(default_factory=set)
    expected: set[str] = field(default_factory=set)


class CallGrouping:
    """Puts the sessions of a call together. A session waits until the others have left memory too, most have none."""

    def __init__(self) -> None:
        self._gathering: dict[str, _Gathering] = {}
        """By the id of each session that arrived or is expected."""

    def add(self, session: Session, record: dict[str, Any]) -> WholeCall | None:
        """Add a session with its record, which names the other legs; return the call if that is all of it."""
        ids = {session.session_id, *(record["legs"] or ())}
        if len(ids) == 1 and session.session_id not in self._gathering:
            return WholeCall([(session, record)])
        call = self._joined(ids)
        call.legs.append((session, record))
        call.arrived.add(session.session_id)
        return self._close(call) if call.expected <= call.arrived else None

    def rest(self) -> Iterator[WholeCall]:
        """Yield the calls of which not all sessions came."""
        for call in list(dict.fromkeys(self._gathering.values())):
            yield self._close(call)

    def _joined(self, ids: set[str]) -> _Gathering:
        """Return the one gathering of these sessions: it may have been several until now."""
        known: Sequence[_Gathering] = list(dict.fromkeys(self._gathering[one] for one in ids if one in self._gathering))
        call = known[0] if known else _Gathering()
        for other in known[1:]:
            call.legs += other.legs
            call.arrived |= other.arrived
            call.expected |= other.expected
        call.expected |= ids
        self._gathering.update(dict.fromkeys(call.expected, call))
        return call

    def _close(self, call: _Gathering) -> WholeCall:
        for one in call.expected:
            self._gathering.pop(one, None)
        return WholeCall(call.legs)
