"""A caller on hold (pinless dial-in) or in ringback (SIP trunk), and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NoReturn

__all__ = ["ELSEWHERE", "HERE", "LOST", "Caller", "CallerState", "write"]


class CallerState(StrEnum):
    """What became of a caller on hold."""

    WAITING = "waiting"
    """On hold."""
    FORWARDED = "forwarded"
    """Daily accepted to connect them to an endpoint; no session is known to be them yet."""
    CONNECTED = "connected"
    """They became a session, which has their number, the called number and how long they waited."""
    GAVE_UP = "gave-up"
    """They never got to a session within `Settings.hold_limit`."""
    FAILED = "failed"
    """Daily refused to forward them."""
    UNKNOWN = "unknown"
    """The limit passed, and a dial-in may have been them, but that cannot be known."""


LOST = (CallerState.GAVE_UP, CallerState.FAILED)
"""The states of callers who got to no session, and who are reported as lost."""


class Caller:
    """A caller on hold (pinless dial-in) or in ringback (SIP trunk). Read-only.

    From the request that Daily sends when somebody calls, and from what this program did with it.
    """

    __slots__ = (
        "_after",
        "_before",
        "_domain_id",
        "_expired",
        "_forward",
        "_in_doubt",
        "_is_told",
        "_lost",
        "_number",
        "_refused_at",
        "_where",
        "amended",
        "call_domain",
        "call_id",
        "ended_at",
        "error",
        "from_",
        "notes",
        "room",
        "session_id",
        "started_at",
        "state",
        "to",
        "via_trunk",
    )

    call_id: str
    """Daily's id of the waiting call. On a trunk, if Daily sent none: the name of the room, with the time where that is used again."""
    from_: str | None
    """The number of the caller."""
    to: str | None
    """The number that was called."""
    call_domain: str | None
    via_trunk: bool
    """True if they called on a SIP trunk. Daily connects them to `room` by itself, so they are not forwarded."""
    room: str | None
    """The name of the room that Daily made for them (SIP trunk)."""
    state: CallerState
    started_at: float | None
    """When they called, in Unix seconds: the event's time, else when it was received."""
    ended_at: float | None
    """When they were connected, or Daily refused to forward them. None if no event says when they left."""
    error: str | None
    """Daily's answer, if it refused to forward them."""
    session_id: str | None
    """The session that they became."""
    notes: Mapping[str, Any]
    """The program's notes."""
    amended: bool
    """True if they were reported as lost, and that is not the last word: they were forwarded or connected later."""

    _number: int
    """The number of the first event about them. Sorts callers by first sight, and stands in for unknown times."""
    _forward: tuple[float | None, int, str] | None
    """The last accepted forward: time, number of the event, endpoint."""
    _refused_at: float | None
    _domain_id: str | None
    _is_told: bool
    """True if `started_at` is Daily's time, not that of a receipt."""
    _after: float | None
    _before: float | None
    """In a log whose lines have no times of receipt, if nobody says when they called: the times of the lines before and after theirs.

    `_after` is 0 if no line before theirs has a time.
    """
    _expired: bool
    _in_doubt: bool
    """True if a dial-in has left memory that may have been them."""
    _where: str | None
    """`here` if they came from another partition, `elsewhere` if they were handed over to one; None if neither."""
    _lost: bool
    """True once they were reported as lost."""

    def __init__(self, call_id: str, number: int) -> None:
        for name in self.__slots__:
            write(self, name, None)
        write(self, "call_id", call_id)
        write(self, "_number", number)
        write(self, "notes", {})
        write(self, "state", CallerState.WAITING)
        for name in ("amended", "via_trunk", "_expired", "_in_doubt", "_is_told", "_lost"):
            write(self, name, False)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name!r} cannot be changed: a caller is read-only")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name!r} cannot be deleted: a caller is read-only")

    @property
    def held_s(self) -> float | None:
        """How many seconds they waited; None if it is not known when that ended."""
        return _between(self.started_at, self.ended_at)

    @property
    def forwarded_to(self) -> str | None:
        """The endpoint that they were forwarded to last."""
        return None if self._forward is None else self._forward[2]

    @property
    def is_elsewhere(self) -> bool:
        """True if they were forwarded to a room whose events are in another partition, which goes on with them."""
        return self._where == ELSEWHERE

    def held(self) -> dict[str, Any]:
        """Return what another partition needs to go on with them, as JSON values."""
        return {
            "from": self.from_,
            "to": self.to,
            "callDomain": self.call_domain,
            "startedAt": self.started_at,
            "notes": dict(self.notes),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the record of this caller as JSON values. Numbers are not masked."""
        return {
            "call_id": self.call_id,
            "from": self.from_,
            "to": self.to,
            "state": self.state.value,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "held_s": self.held_s,
        }

    def __repr__(self) -> str:
        return f"<Caller {self.call_id} {self.state}>"

    def dump(self) -> list[Any]:
        """Return all values as JSON values."""
        return [getattr(self, name) for name in _DUMPED]

    @classmethod
    def load(cls, dumped: Iterable[Any]) -> Caller:
        """Restore what `dump` returned, also after a round trip through JSON, and also before there were trunks."""
        caller = cls("", 0)
        for name, value in zip(_DUMPED, dumped, strict=False):
            write(caller, name, tuple(value) if isinstance(value, list) else value)
        write(caller, "state", CallerState(caller.state))
        return caller


write = object.__setattr__
HERE, ELSEWHERE = "here", "elsewhere"
_LATER_SLOTS = ("room", "via_trunk", "_domain_id", "_is_told", "_where", "_in_doubt", "_after", "_before")
_DUMPED = (*(name for name in Caller.__slots__ if name not in _LATER_SLOTS), *_LATER_SLOTS)
"""The order of the values in a dump; what was added later stands last."""


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
