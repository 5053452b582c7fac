"""Evidence: what was seen of a session, and what follows from it: why the session ended, and by whom.

A session stores its evidence as bits that are only ever added. The cause and the side that ended it are derived from the
bits, so they converge as the state does: the same events in any order give the same answer.
Which event is which evidence is a column of the table (`_table.py`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from telstate.events import Direction

__all__ = ["Cause", "EndSource", "EndedBy", "Evidence", "cause_of", "ended_by_of"]


class Cause(StrEnum):
    """Why a session ended, strongest evidence first."""

    FAILED = "failed"
    """An error was reported, other than that nobody answered."""
    REFUSED = "refused"
    """Daily refused to start the call."""
    TRANSFERRED = "transferred"
    """The call was transferred: a target was reached, or the session was handed over to it."""
    COMPLETED = "completed"
    """The call took place and stopped: the dial-out was answered, or the dial-in was connected."""
    UNANSWERED = "unanswered"
    """It stopped before that: busy, declined, no answer, or the caller gave up. With pipecat's SIPTransport the state is `error` then."""
    EXPIRED = "expired"
    """No event arrived within the silence limit: neither an end was reported, nor is there a sign of one."""


class EndedBy(StrEnum):
    """Who ended a session. Daily's events do not say it, so it is derived from what this program requested."""

    LOCAL = "local"
    """This program requested the stop, or its call client left the room and so ended the call."""
    REMOTE = "remote"
    """This program started or transferred the session, and did not request the stop."""
    SYSTEM = "system"
    """The session expired."""
    UNKNOWN = "unknown"
    """This program only listens: Daily does not say who ended the session."""


class EndSource(StrEnum):
    """How it is known that a session ended, and when. What is told outweighs what is inferred, which outweighs what is assumed."""

    TOLD = "told"
    """Daily reported the end: a stopped, an error or a refusal."""
    INFERRED = "inferred"
    """No event reports the end, but there is a sign of it: see `EndSign`."""
    ASSUMED = "assumed"
    """There was only silence, for longer than the limit. The call ended at some time after its last sign of life."""


class Evidence:
    """What was seen of a session, as bits. Plain integers: an IntFlag costs a microsecond per operation. Final: mypyc takes only constants."""

    REQUESTED: Final = 1
    CONNECTED: Final = 2
    ANSWERED: Final = 4
    STOPPED: Final = 8
    ERROR: Final = 16
    REFUSED: Final = 32
    JOINED: Final = 64
    STOP_REQUESTED: Final = 128
    TRANSFER_REQUESTED: Final = 512
    TOLD: Final = STOPPED | ERROR | REFUSED
    """Daily reported the end."""
    BY_DAILY_JS: Final = 1 << 12
    BY_WEBHOOK: Final = 1 << 13
    BY_DAILY_PYTHON: Final = 1 << 14
    BY_OTHERS: Final = 1 << 15
    """Which dialects reported events of the session."""
    BY_DIALECTS: Final = BY_DAILY_JS | BY_WEBHOOK | BY_DAILY_PYTHON | BY_OTHERS
    BY_CLIENTS: Final = 1 << 16
    """Several call clients reported events of the session."""
    CONNECTED_BY_DAILY: Final = 1 << 17
    ANSWERED_BY_DAILY: Final = 1 << 18
    TOLD_BY_DAILY: Final = 1 << 19
    """The time of a step is Daily's own, not that of a receipt."""
    ENDPOINT_DERIVED: Final = 1 << 20
    """No event named its endpoint: it follows from what is known of its room. A bit, as many sessions have it."""
    FAILURE: Final = 1 << 21
    NOT_PICKED_UP: Final = 1 << 22
    """What the errors were of a session with one that says that the callee was busy, declined or did not answer: another one failed too,
    and that one. An ordinary error has neither."""
    GIVEN_UP: Final = 1 << 23
    """A dialer requested the stop, before the program itself did: it gave the call up, and may dial again."""
    ERROR_TEXT: Final = 1 << 24
    """The text that is known is that of an error."""
    GAP: Final = 1 << 25
    """Events may have been missed while it went on: also those of an answer."""


# The names of an enum are slow to look up.
_FAILED, _REFUSED, _TRANSFERRED, _COMPLETED, _UNANSWERED, _EXPIRED = Cause
_LOCAL, _REMOTE, _SYSTEM, _UNKNOWN = EndedBy
_ASSUMED = EndSource.ASSUMED
_COMPLETED_BY = {Direction.DIALOUT: Evidence.ANSWERED, Direction.DIALIN: Evidence.CONNECTED | Evidence.JOINED}


def cause_of(evidence: int, direction: Direction, source: EndSource, *, transferred: bool) -> Cause:
    """Derive why a session ended from the strongest evidence. Whether it was transferred follows from its transfers."""
    if evidence & Evidence.ERROR and evidence & (Evidence.FAILURE | Evidence.NOT_PICKED_UP) != Evidence.NOT_PICKED_UP:
        return _FAILED
    if evidence & Evidence.REFUSED:
        return _REFUSED
    if transferred:
        return _TRANSFERRED
    if source is _ASSUMED:
        return _EXPIRED
    return _COMPLETED if evidence & _COMPLETED_BY[direction] else _UNANSWERED


def ended_by_of(evidence: int, source: EndSource, *, client_left: bool) -> EndedBy:
    """Derive who ended a session from what this program did. Whether its leaving ended the session follows from the signs."""
    if evidence & Evidence.STOP_REQUESTED or client_left:
        return _LOCAL
    if source is _ASSUMED:
        return _SYSTEM
    controlled = Evidence.REQUESTED | Evidence.REFUSED | Evidence.TRANSFER_REQUESTED
    return _REMOTE if evidence & controlled else _UNKNOWN
