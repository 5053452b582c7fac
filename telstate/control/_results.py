"""What came of dialling: of each attempt, and of all together."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from telstate.calls._session import Session
from telstate.errors import DailyError

__all__ = ["Attempt", "DialOutcome", "DialResult"]


class DialOutcome(StrEnum):
    """What came of it."""

    ANSWERED = "answered"
    """Somebody, or something, picked up: a voicemail answers like a person. The call may be over again (`session.ended`): whoever
    picks up may hang up at once, or came a moment too late, when the ring timeout had ended it."""
    UNANSWERED = "unanswered"
    """It was busy, declined, or rang until the ring timeout: Daily's events do not tell these apart."""
    REFUSED = "refused"
    """Daily refused the start; `error` says why."""
    FAILED = "failed"
    """The start was accepted, and the call failed; `session.error_msg` says how."""
    STOPPED = "stopped"
    """This program stopped or transferred the call before it was answered. It is not dialled again for that."""
    UNKNOWN = "unknown"
    """Nobody can tell: the start was not answered and no call of it was found, or the call could not be ended, or it was ended at the
    ring timeout, but no event of it ever came in, so it may have been answered. It is never dialled again for that; look at the
    room, and at whether events come in, before you do."""


class Attempt(NamedTuple):
    """One start."""

    outcome: DialOutcome
    session_id: str | None
    """Daily's; of a refused start the one that was made here; None where no call was found."""
    user_id: str
    """The `userId` it was started with; by it its events and its participant are known."""
    error: str | None = None
    """What Daily said, if it refused or the call failed; or why nobody knows what became of it."""


class DialResult(NamedTuple):
    """What came of all attempts. The last one decides, or one before it whose answer was told late."""

    outcome: DialOutcome
    session: Session | None
    """The session of the attempt that decides, if there is one."""
    attempts: tuple[Attempt, ...]
    """All that were made, in order: never more than allowed."""
    error: DailyError | None = None
    """Why its start was refused, or nobody knows what became of it."""
    destination: str = ""
    """Who was called: the number or the SIP URI of the options."""

    @property
    def answered(self) -> bool:
        """True if somebody picked up."""
        return self.outcome is DialOutcome.ANSWERED
