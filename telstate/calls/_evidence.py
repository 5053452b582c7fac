"""Evidence: what was seen of a session, and what follows from it: why the session ended, and by whom.

A session stores its evidence as bits that are only ever added. The cause and the side that ended it are derived from the
bits, so they converge as the state does: the same events in any order give the same answer.
Which event is which evidence is a column of the table (`_table.py`).
"""

from __future__ import annotations

from enum import StrEnum

from telstate.events import Direction

__all__ = ["Cause", "EndedBy", "Evidence", "cause_of", "end_is_reported", "ended_by_of"]


class Cause(StrEnum):
    """Why a session ended, strongest evidence first."""

    FAILED = "failed"
    """Daily reported an error."""
    REFUSED = "refused"
    """Daily refused to start the call."""
    TRANSFERRED = "transferred"
    """The call was transferred: a target was reached, or the session was handed over to it."""
    COMPLETED = "completed"
    """The call took place and stopped: the dial-out was answered, or the dial-in was connected."""
    UNANSWERED = "unanswered"
    """It stopped before that: busy, declined, no answer, or the caller gave up."""
    EXPIRED = "expired"
    """No event arrived within the silence limit, or Daily no longer lists the session; no end was ever reported."""


class EndedBy(StrEnum):
    """Who ended a session. Daily's events do not say it, so it is derived from what this program requested."""

    LOCAL = "local"
    """This program requested the stop."""
    REMOTE = "remote"
    """This program started or transferred the session, and did not request the stop."""
    SYSTEM = "system"
    """The session expired."""
    UNKNOWN = "unknown"
    """This program only listens: Daily does not say who ended the session."""


class Evidence:
    """What was seen of a session, as bits. Plain integers: an IntFlag costs a microsecond per operation."""

    REQUESTED = 1
    CONNECTED = 2
    ANSWERED = 4
    STOPPED = 8
    ERROR = 16
    REFUSED = 32
    JOINED = 64
    STOP_REQUESTED = 128
    TRANSFER_REQUESTED = 512
    ENDPOINT_DERIVED = 1 << 20
    """No event named its endpoint: it follows from what is known of its room. A bit, as many sessions have it."""


def cause_of(evidence: int, direction: Direction, *, transferred: bool) -> Cause:
    """Derive why a session ended from the strongest evidence. Whether it was transferred follows from its transfers."""
    if evidence & Evidence.ERROR:
        return Cause.FAILED
    if evidence & Evidence.REFUSED:
        return Cause.REFUSED
    if transferred:
        return Cause.TRANSFERRED
    if not evidence & Evidence.STOPPED:
        return Cause.EXPIRED
    completed = Evidence.ANSWERED if direction is Direction.DIALOUT else Evidence.CONNECTED | Evidence.JOINED
    return Cause.COMPLETED if evidence & completed else Cause.UNANSWERED


def ended_by_of(evidence: int) -> EndedBy:
    """Derive who ended a session from what this program requested."""
    if evidence & Evidence.STOP_REQUESTED:
        return EndedBy.LOCAL
    if not end_is_reported(evidence):
        return EndedBy.SYSTEM
    controlled = Evidence.REQUESTED | Evidence.REFUSED | Evidence.TRANSFER_REQUESTED
    return EndedBy.REMOTE if evidence & controlled else EndedBy.UNKNOWN


def end_is_reported(evidence: int) -> bool:
    """Return whether Daily reported the end, rather than a limit that passed."""
    return bool(evidence & (Evidence.STOPPED | Evidence.ERROR | Evidence.REFUSED))
