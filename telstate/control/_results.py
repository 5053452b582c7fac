"""The result of a dial: of each attempt, and of all together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

from telstate.calls._session import Session
from telstate.errors import DailyError

__all__ = ["Answered", "Attempt", "Confirm", "DialOutcome", "DialResult", "NotAnswered", "Verdict"]


class DialOutcome(StrEnum):
    """How an attempt, or a whole dial, ended."""

    ANSWERED = "answered"
    """Somebody, or something, picked up: voicemail answers like a person. The call may be over already (`session.ended`): they
    hung up at once, or they answered just as the ring timeout ended the call."""
    UNANSWERED = "unanswered"
    """Busy, declined, or it rang until the ring timeout. Daily's events do not distinguish these."""
    REFUSED = "refused"
    """Daily refused the start; `error` says why."""
    FAILED = "failed"
    """Daily accepted the start, and the call failed; `session.error_msg` says how."""
    STOPPED = "stopped"
    """This program stopped or transferred the call before it was answered. It is not dialled again."""
    UNCONFIRMED = "unconfirmed"
    """It was answered, and `confirm` said that this does not count, or they hung up before it said anything; the call was ended."""
    CANCELLED = "cancelled"
    """It was ended before it was answered: the dial's time was over, or another target was faster."""
    UNKNOWN = "unknown"
    """It is not known whether there is, or was, an answered call: the start got no answer and no call was found, or the call could
    not be ended, or it was ended at the ring timeout without a single event of it, or an answer may be among events that were missed while
    the process was away or stood still. It is not dialled again. Check the room, and whether events arrive, before you dial again."""


class Attempt(NamedTuple):
    """One attempt of a dial: a start, and its result.

    Attributes:
        outcome: how the attempt ended.
        session_id: Daily's id. For a refused start, the id made here. None if no call was found, or nothing was sent.
        user_id: the `userId` of the start. Its events and its participant carry it.
        error: what Daily said if it refused, if the call failed, or why nobody answered; or why the outcome is unknown.
        destination: the number or SIP URI.
        started_at: when it began, in Unix seconds.
        ended_at: when its outcome was known here, in Unix seconds.
        rang: True if `dialout-connected` or an answer was reported: the network took the call up. It is all the evidence that there is:
            no event of Daily's says that a phone rings. One that is unanswered and never rang is not told from one whose
            `dialout-connected` was lost.
        verdict: what answered, as `confirm` said.
    """

    outcome: DialOutcome
    session_id: str | None
    user_id: str
    error: str | None = None
    destination: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    rang: bool = False
    verdict: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What `confirm` says of an answer.

    Attributes:
        reached: True if it counts. Else the call is ended, and dialled again within the same budget.
        what: what answered, in your words: `person`, `voicemail`, `ivr`. The session keeps it as its note `verdict`.
    """

    reached: bool
    what: str


@dataclass(frozen=True)
class Answered:
    """The `DialResult` of a dial that was answered. True in a condition.

    Attributes:
        session: the session of the attempt that was answered.
        attempts: all attempts, in order. The last one decides, unless the answer of an earlier one was reported
            late.
        destination: the number or SIP URI that was dialled.
        outcome: always `answered`.
        error: always None.
    """

    session: Session
    attempts: tuple[Attempt, ...]
    destination: str
    outcome: Literal[DialOutcome.ANSWERED] = DialOutcome.ANSWERED
    error: None = None

    def __bool__(self) -> Literal[True]:
        """Return True: it was answered."""
        return True


@dataclass(frozen=True)
class NotAnswered:
    """The `DialResult` of a dial that was not answered, as far as is known. False in a condition.

    Attributes:
        outcome: how the dial ended.
        session: the session of the last attempt, if there is one.
        attempts: all attempts, in order; never more than allowed.
        destination: the number or SIP URI that was dialled.
        error: why the last start was refused, or why the outcome is unknown.
    """

    outcome: DialOutcome
    session: Session | None
    attempts: tuple[Attempt, ...]
    destination: str
    error: DailyError | None = None

    def __bool__(self) -> Literal[False]:
        """Return False: it was not answered, as far as is known."""
        return False


Confirm: TypeAlias = Callable[[Session, Attempt], Awaitable[Verdict]]
"""Decides whether an answer was one: see `Dialer.dial`."""

DialResult: TypeAlias = Answered | NotAnswered
"""The result of a dial. `if result:` is true only if it was answered; `result.session` is then a `Session`, for type checkers too."""
