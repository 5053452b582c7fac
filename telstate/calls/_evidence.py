"""What was seen of a session, and what follows from it: why it ended, and by whom.

Neither is stored. Both follow from the evidence, which is only ever added to, so they converge as the state does: the same
events in any order give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from telstate.calls._table import RANK, State
from telstate.events import Direction

__all__ = ["KINDS", "Cause", "EndedBy", "Evidence", "Kind", "cause_of", "ended_by_of", "evidenced"]


class Cause(StrEnum):
    """Why a session ended, strongest evidence first."""

    FAILED = "failed"
    """An error was told."""
    REFUSED = "refused"
    """Daily refused our start."""
    TRANSFERRED = "transferred"
    """It was handed on."""
    COMPLETED = "completed"
    """A dial-out that was answered, a dial-in that was connected, then stopped."""
    UNANSWERED = "unanswered"
    """Stopped before that: busy, declined, no answer, or the caller gave up."""
    EXPIRED = "expired"
    """Nothing was heard for the silence limit, or whoever was asked knew it no more, and no end was ever told."""


class EndedBy(StrEnum):
    """Who ended a session, as far as can be known: Daily's events do not say."""

    LOCAL = "local"
    """This program asked for the stop."""
    REMOTE = "remote"
    """This program started or steers the session and did not ask."""
    SYSTEM = "system"
    """It expired."""
    UNKNOWN = "unknown"
    """Somebody else steers the session; this program only listens."""


class Evidence:
    """What was seen of a session, as bits of `Session.seen`. Plain integers: IntFlag costs a microsecond an operation."""

    REQUESTED = 1
    CONNECTED = 2
    ANSWERED = 4
    STOPPED = 8
    ERROR = 16
    REFUSED = 32
    JOINED = 64
    STOP_REQUESTED = 128
    TRANSFER = 256
    TRANSFER_REQUESTED = 512
    EXPIRED = 1024


class Kind:
    """What an event of one type is to a session: its evidence, the state it stands for, whether it comes only once."""

    __slots__ = ("at", "bit", "once", "rank")

    def __init__(self, bit: int, state: State, at: str, *, once: bool = True) -> None:
        self.bit = bit
        self.rank = RANK[state]
        self.at = at
        """The session's field that keeps its time."""
        self.once = once
        """A lifecycle event: told again, it is a duplicate."""


KINDS: Mapping[str, Kind] = {
    "dialout-requested": Kind(Evidence.REQUESTED, State.IDLE, "requested_at"),
    "dialout-connected": Kind(Evidence.CONNECTED, State.CONNECTED, "connected_at"),
    "dialin-connected": Kind(Evidence.CONNECTED, State.CONNECTED, "connected_at"),
    "dialout-answered": Kind(Evidence.ANSWERED, State.ANSWERED, "answered_at"),
    "participant-joined": Kind(Evidence.JOINED, State.ANSWERED, "answered_at", once=False),
    "dialout-stopped": Kind(Evidence.STOPPED, State.STOPPED, "ended_at"),
    "dialin-stopped": Kind(Evidence.STOPPED, State.STOPPED, "ended_at"),
    "dialout-error": Kind(Evidence.ERROR, State.ERROR, "ended_at"),
    "dialin-error": Kind(Evidence.ERROR, State.ERROR, "ended_at"),
    "dialout-refused": Kind(Evidence.REFUSED, State.ERROR, "ended_at"),
}


def evidenced(seen: int, direction: Direction) -> list[State]:
    """The states that a session was in, by all that was seen of it, in their order; idle is not among them."""
    answered = Evidence.ANSWERED if direction is Direction.DIALOUT else Evidence.JOINED
    bits = {State.CONNECTED: Evidence.CONNECTED, State.ANSWERED: answered, State.STOPPED: Evidence.STOPPED}
    return [state for state, bit in bits.items() if seen & bit]


def cause_of(seen: int, direction: Direction) -> Cause:
    """Why a session ended, by the strongest evidence seen."""
    if seen & Evidence.ERROR:
        return Cause.FAILED
    if seen & Evidence.REFUSED:
        return Cause.REFUSED
    if seen & (Evidence.TRANSFER | Evidence.TRANSFER_REQUESTED):
        return Cause.TRANSFERRED
    if not seen & Evidence.STOPPED:
        return Cause.EXPIRED
    reached = Evidence.ANSWERED if direction is Direction.DIALOUT else Evidence.CONNECTED | Evidence.JOINED
    return Cause.COMPLETED if seen & reached else Cause.UNANSWERED


def ended_by_of(seen: int) -> EndedBy:
    """Who ended a session: the events do not say, what this side asked for does."""
    if seen & Evidence.STOP_REQUESTED:
        return EndedBy.LOCAL
    if not seen & (Evidence.STOPPED | Evidence.ERROR | Evidence.REFUSED):
        return EndedBy.SYSTEM
    ours = Evidence.REQUESTED | Evidence.REFUSED | Evidence.TRANSFER_REQUESTED
    return EndedBy.REMOTE if seen & ours else EndedBy.UNKNOWN
